-- finish_jobs for a batch that holds deliveries of topics: the same, and their ends are noted for the audit log. A statement
-- of its own, because even a part that finds nothing would cost every other batch a tenth.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: finish_jobs says why.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token, u.ran_ms, u.result, u.ttl
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[], %(ran_ms)s::float8[], %(results)s::text[],
                %(ttls)s::float8[]) AS u(job_id, token, ran_ms, result, ttl)
    ORDER BY u.job_id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i
    WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
    RETURNING l.job_id, l.token, l.worker, l.attempt, i.ran_ms, i.result, i.ttl, l.queue, l.partition_key, l.slot, l.charged_ms
), told AS (  -- admission hears that a slot is free
    INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
    SELECT queue, coalesce(partition_key, ''), count(*), sum(ran_ms), sum(charged_ms)
    FROM gone WHERE slot IS NOT NULL GROUP BY 1, 2
), noted AS (  -- what the audit log of topics will tell
    INSERT INTO tandem.delivery_end (xid, queue, action, worker, attempt, started_at, ended_at, job_ids)
    SELECT pg_current_xact_id(), g.queue, 'ack', g.worker, g.attempt, min(c.at - g.ran_ms * interval '1 ms'), c.at, array_agg(g.job_id)
    FROM gone AS g CROSS JOIN clock AS c WHERE starts_with(g.queue, 'topic.') GROUP BY g.queue, g.worker, g.attempt, c.at
)
INSERT INTO tandem.done (job_id, token, worker, started_at, finished_at, attempt, outcome, result, result_expires_at)
SELECT g.job_id, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.attempt, 'SUCCEEDED', g.result::jsonb,
       c.at + g.ttl * interval '1 s'
FROM gone AS g CROSS JOIN clock AS c
RETURNING job_id
