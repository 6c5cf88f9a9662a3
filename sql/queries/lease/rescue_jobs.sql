-- Takes expired leases back: the job becomes a suspect that runs alone next; the attempt is refunded, because a
-- crash counts in `crashes` and only if the job ran alone. Token and expiry are repeated: a finish may have won.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token) ORDER BY u.job_id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), locked AS MATERIALIZED (
    -- One look-up by id for each row, whatever the statistics say: taken while no lease was there, they make a join
    -- read all, or the index on the expiry, which IS TRUE keeps away.
    SELECT f.place FROM input AS i CROSS JOIN clock AS c CROSS JOIN LATERAL (
        SELECT l.ctid AS place FROM tandem.lease AS l
        WHERE l.job_id = i.job_id AND l.token = i.token AND (l.expires_at <= c.at) IS TRUE FOR UPDATE OF l
    ) AS f
), gone AS (
    DELETE FROM tandem.lease AS l WHERE l.ctid = ANY (ARRAY(SELECT k.place FROM locked AS k))
    RETURNING l.job_id, l.token, l.worker, l.claimed_at, l.priority, l.attempt, l.crashes, l.alone, l.queue,
              l.partition_key, l.slot, l.charged_ms
), told AS (  -- admission hears that a slot is free
    INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
    SELECT queue, coalesce(partition_key, ''), count(*), sum(charged_ms), sum(charged_ms)
    FROM gone WHERE slot IS NOT NULL GROUP BY 1, 2
), managed AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS queues
), noted AS (
    INSERT INTO tandem.attempt (job_id, attempt, token, worker, started_at, finished_at, verdict, error_class, message)
    SELECT g.job_id, g.attempt, g.token, g.worker, g.claimed_at, c.at, 'RESCUED', 'crash', 'the worker did not extend its lease'
    FROM gone AS g CROSS JOIN clock AS c
), again AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), g.job_id, c.at, g.priority, g.attempt - 1,
           g.crashes + CASE WHEN g.alone THEN 1 ELSE 0 END, true, g.queue, g.partition_key
    FROM gone AS g CROSS JOIN clock AS c WHERE g.queue <> ALL ((SELECT m.queues FROM managed AS m)::text[])
), waits AS MATERIALIZED (
    SELECT tandem.block_jobs(array_agg(job_id), array_agg(queue), array_agg(partition_key), array_agg(priority),
               array_agg((attempt - 1)::smallint), array_agg((crashes + CASE WHEN alone THEN 1 ELSE 0 END)::smallint),
               array_agg(true), array_agg(c.at), array_agg(NULL::timestamptz), true)
    FROM gone AS g CROSS JOIN clock AS c WHERE g.queue = ANY ((SELECT m.queues FROM managed AS m)::text[])
)
SELECT g.job_id, (g.attempt - 1)::smallint AS attempt, c.at AS next_attempt_at, g.queue
FROM gone AS g CROSS JOIN clock AS c CROSS JOIN waits
