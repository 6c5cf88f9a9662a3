-- The fallback, one batch: events that are PENDING past their time. A job that lives is left alone and looked at again
-- later; one that ended without its event knowing closes the event; one that is gone is replaced by a new one.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), due AS MATERIALIZED (
    SELECT e.id, e.job_id FROM public.conversation_events AS e
    WHERE e.status = 'PENDING' AND e.next_attempt_at <= (SELECT c.at FROM clock AS c)
    ORDER BY e.next_attempt_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT d.id, EXISTS (SELECT FROM tandem.ready AS r WHERE r.job_id = d.job_id)
                 OR EXISTS (SELECT FROM tandem.lease AS l WHERE l.job_id = d.job_id)
                 OR EXISTS (SELECT FROM tandem.scheduled AS s WHERE s.job_id = d.job_id)
                 OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.job_id = d.job_id) AS alive,
           f.outcome IN ('DEAD', 'CANCELLED') AS ended, coalesce(f.error_class, lower(f.outcome)) AS code, f.reason
    FROM due AS d LEFT JOIN LATERAL (
        SELECT o.outcome, o.error_class, o.reason FROM tandem.done AS o WHERE o.job_id = d.job_id LIMIT 1) AS f ON true
), moved AS (
    UPDATE public.conversation_events AS e SET next_attempt_at = c.at + %(fallback)s::interval
    FROM judged AS j, clock AS c WHERE e.id = j.id AND j.alive
    RETURNING e.id
), closed AS (
    UPDATE public.conversation_events AS e
    SET status = 'FAILED', next_attempt_at = NULL, error_code = j.code, error_details = j.reason
    FROM judged AS j WHERE e.id = j.id AND NOT j.alive AND j.ended
    RETURNING e.id
), again AS (
    UPDATE public.conversation_events AS e
    SET next_attempt_at = c.at + %(fallback)s::interval,
        job_id = tandem.enqueue('process_conversation_event', jsonb_build_object('event_id', e.id), 'conversations',
                                event_id => e.id, context => jsonb_build_object('conversation_id', e.conversation_id))
    FROM judged AS j, clock AS c WHERE e.id = j.id AND NOT j.alive AND j.ended IS NOT TRUE
    RETURNING e.conversation_id
)
SELECT (SELECT count(*) FROM due) AS checked, (SELECT count(*) FROM moved) AS alive, (SELECT count(*) FROM closed) AS closed,
       coalesce((SELECT array_agg(a.conversation_id) FROM again AS a), '{}') AS reprocessed
