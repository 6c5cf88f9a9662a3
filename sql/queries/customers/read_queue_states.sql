-- Where jobs stand in the queue; each asks by index.
SELECT s.job_id, s.status, s.waiting_for, s.attempt, s.priority, s.next_attempt_at, s.started_at, s.finished_at, s.error_class
FROM unnest(%(job_ids)s::bigint[]) AS u(job_id)
CROSS JOIN LATERAL (
    SELECT j.job_id, j.status, j.waiting_for, j.attempt, j.priority, j.next_attempt_at, j.started_at, j.finished_at, j.error_class
    FROM tandem.job_status AS j WHERE j.job_id = u.job_id OFFSET 0
) AS s
