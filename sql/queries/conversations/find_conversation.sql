-- One conversation with its job and outcome.
SELECT s.event_id, s.conversation_id, s.user_id, s.bot_type, s.bot_id, s.bot_name, s.start_time, s.end_time, s.status,
       s.attempt_count, s.next_attempt_at, s.created_at, s.processed_at, s.friendship_score_change, s.new_friendship_level,
       s.score, s.error_code, s.error_details, s.job_id, s.job_status, s.job_waiting_for, s.job_attempt,
       s.job_next_attempt_at, s.job_started_at, s.job_lease_expires_at, s.job_finished_at, s.job_created_at
FROM public.conversation_event_status AS s
WHERE s.conversation_id = %(conversation_id)s
