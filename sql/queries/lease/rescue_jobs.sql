-- Takes expired leases back: the job becomes a suspect that runs alone next; the attempt is refunded, because a
-- crash counts in `crashes` and only if the job ran alone. Token and expiry are repeated: a finish may have won.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token) ORDER BY u.job_id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i, clock AS c
    WHERE l.job_id = i.job_id AND l.token = i.token AND l.expires_at <= c.at
    RETURNING l.job_id, l.token, l.worker, l.claimed_at, l.priority, l.attempt, l.crashes, l.alone, l.queue, l.partition_key
), noted AS (
    INSERT INTO tandem.attempt (job_id, attempt, token, worker, started_at, finished_at, verdict, error_class, message)
    SELECT g.job_id, g.attempt, g.token, g.worker, g.claimed_at, c.at, 'RESCUED', 'crash', 'the worker did not extend its lease'
    FROM gone AS g CROSS JOIN clock AS c
), again AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), g.job_id, c.at, g.priority, g.attempt - 1,
           g.crashes + CASE WHEN g.alone THEN 1 ELSE 0 END, true, g.queue, g.partition_key
    FROM gone AS g CROSS JOIN clock AS c
)
SELECT g.job_id, (g.attempt - 1)::smallint AS attempt, c.at AS next_attempt_at, g.queue FROM gone AS g CROSS JOIN clock AS c
