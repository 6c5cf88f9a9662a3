-- Notes that a job which has not ended shall be cancelled; the first request's words count. Answers how the job stands,
-- and whether this is that request.
-- Where it runs, workers are told at the commit; one that does not listen learns of it at its next heartbeat.
WITH standing AS MATERIALIZED (
    SELECT s.job_id, s.kind, s.queue, s.status FROM tandem.job_status AS s WHERE s.job_id = %(job_id)s::bigint
), asked AS (
    INSERT INTO tandem.cancel_intent (job_id, requested_at, requested_by, reason)
    SELECT job_id, tandem.clock(), %(requested_by)s, %(reason)s FROM standing WHERE status IN ('PENDING', 'RUNNING')
    ON CONFLICT (job_id) DO NOTHING RETURNING job_id
)
SELECT job_id, kind, queue, status, EXISTS (SELECT FROM asked) AS fresh,
       CASE WHEN status = 'RUNNING' THEN pg_notify('tandem_cancel', '') END AS told FROM standing
