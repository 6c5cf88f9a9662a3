-- Hands claimed jobs back unstarted: the attempt is refunded, the position is fresh. A job with a cancel intent goes
-- back too; whoever claims it next ends it.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token) ORDER BY u.job_id
), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i WHERE l.job_id = i.job_id AND l.token = i.token
    RETURNING l.job_id, l.priority, l.attempt, l.crashes, l.suspect, l.queue, l.partition_key
), later AS (
    INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT tandem.clock() + %(delay)s::interval, job_id, priority, attempt - 1, crashes, suspect, queue, partition_key
    FROM gone WHERE %(delay)s::interval > '0'
), back AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), job_id, tandem.clock(), priority, attempt - 1, crashes, suspect, queue, partition_key
    FROM gone WHERE %(delay)s::interval <= '0'
)
SELECT job_id, queue FROM gone
