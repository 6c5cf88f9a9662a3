-- Where a job stands in the queue.
SELECT s.status, s.waiting_for, s.attempt, s.priority, s.next_attempt_at, s.started_at, s.finished_at, s.error_class
FROM tandem.job_status AS s WHERE s.job_id = %(job_id)s
