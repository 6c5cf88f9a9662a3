-- Brings an event in line with its job: a retry or rescue (PENDING), a death or cancel (FAILED), a redrive (PENDING).
-- Only the event's present job counts, and what was processed stays processed.
UPDATE public.conversation_events AS e
SET status = %(status)s, attempt_count = %(attempt)s, error_code = %(error_code)s, error_details = %(error_details)s,
    next_attempt_at = CASE WHEN %(status)s = 'PENDING' THEN coalesce(%(next_attempt_at)s::timestamptz, tandem.clock()) END
WHERE e.id = %(event_id)s AND e.job_id = %(job_id)s AND e.status <> 'PROCESSED'
