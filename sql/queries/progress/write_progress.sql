-- Notes how far jobs are whose lease still carries our token; the lease is held meanwhile, so that a stale try writes nothing.
-- Answers the jobs that were ours.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token, u.percent, u.stage
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[], %(percents)s::float8[], %(stages)s::text[])
        AS u(job_id, token, percent, stage)
    ORDER BY u.job_id
), held AS MATERIALIZED (
    SELECT o.job_id, o.attempt, i.percent, i.stage FROM input AS i CROSS JOIN LATERAL (  -- one by one, whatever the statistics say
        SELECT l.job_id, l.attempt FROM tandem.lease AS l WHERE l.job_id = i.job_id AND l.token = i.token FOR KEY SHARE OF l) AS o
)
INSERT INTO tandem.progress AS p (job_id, attempt, percent, stage, updated_at)
SELECT h.job_id, h.attempt, h.percent, h.stage, tandem.clock() FROM held AS h
ON CONFLICT (job_id) DO UPDATE
SET attempt = excluded.attempt, percent = excluded.percent, stage = excluded.stage, updated_at = excluded.updated_at
RETURNING p.job_id
