-- Ends up to `most` deliveries of a queue that wait, as CANCELLED: a seek puts the group elsewhere. Running ones go on.
-- `= ANY (ARRAY[…])` keeps rows looked up one by one: finish_jobs says why.
WITH waiting AS MATERIALIZED (
    SELECT r.job_id FROM tandem.ready AS r WHERE r.queue = %(queue)s ORDER BY r.priority, r.pos LIMIT %(most)s FOR UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT s.job_id FROM tandem.scheduled AS s WHERE s.queue = %(queue)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT b.job_id FROM tandem.blocked AS b WHERE b.queue = %(queue)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM tandem.ready AS r USING waiting AS w WHERE r.job_id = ANY (ARRAY[w.job_id]) RETURNING r.job_id, r.attempt
), gone_later AS (
    DELETE FROM tandem.scheduled AS s USING due AS d WHERE s.job_id = ANY (ARRAY[d.job_id]) RETURNING s.job_id, s.attempt
), gone_held AS (
    DELETE FROM tandem.blocked AS b USING held AS h WHERE b.job_id = ANY (ARRAY[h.job_id]) RETURNING b.job_id, b.attempt
)
INSERT INTO tandem.done (job_id, finished_at, attempt, outcome, error_class, reason)
SELECT u.job_id, tandem.clock(), u.attempt, 'CANCELLED', 'cancelled', %(reason)s
FROM (SELECT job_id, attempt FROM gone UNION ALL SELECT job_id, attempt FROM gone_later UNION ALL SELECT job_id, attempt FROM gone_held) AS u
RETURNING job_id
