-- Finishes succeeded jobs whose lease still carries our token; answers the ids it finished.
-- `= ANY (ARRAY[i.job_id])` is `= i.job_id` that no join can follow by the order of ids: by statistics of a moment without leases
-- that order looks cheapest, and would read every lease, and all dead ones, in each call.
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
)
INSERT INTO tandem.done (job_id, token, worker, started_at, finished_at, attempt, outcome, result, result_expires_at)
SELECT g.job_id, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.attempt, 'SUCCEEDED', g.result::jsonb,
       c.at + g.ttl * interval '1 s'
FROM gone AS g CROSS JOIN clock AS c
RETURNING job_id
