-- The heartbeat: extends the leases this process still holds and answers those that exist, with their cancel intents.
-- A row that another transaction has locked is not waited for: it exists, and the next beat extends it.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: finish_jobs says why.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token) ORDER BY u.job_id
), free AS MATERIALIZED (
    SELECT f.job_id FROM input AS i CROSS JOIN LATERAL (
        SELECT l.job_id FROM tandem.lease AS l WHERE l.job_id = i.job_id AND l.token = i.token FOR NO KEY UPDATE OF l SKIP LOCKED
    ) AS f
), extended AS (
    UPDATE tandem.lease AS l SET expires_at = (SELECT tandem.clock()) + %(lease)s::interval
    FROM free AS f WHERE l.job_id = ANY (ARRAY[f.job_id])
)
SELECT l.job_id, l.token, EXISTS (SELECT FROM tandem.cancel_intent AS c WHERE c.job_id = l.job_id) AS cancelled
FROM input AS i JOIN tandem.lease AS l ON l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
