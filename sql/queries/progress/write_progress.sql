-- Notes how far jobs are whose lease still carries our token; the lease is held meanwhile, so that a stale try writes nothing.
-- Answers the jobs that were ours.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token, u.percent, u.stage
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[], %(percents)s::float8[], %(stages)s::text[])
        AS u(job_id, token, percent, stage)
), held AS MATERIALIZED (
    SELECT l.job_id, l.attempt, i.percent, i.stage FROM input AS i
    JOIN tandem.lease AS l ON l.job_id = i.job_id AND l.token = i.token ORDER BY l.job_id FOR KEY SHARE OF l
)
INSERT INTO tandem.progress AS p (job_id, attempt, percent, stage, updated_at)
SELECT h.job_id, h.attempt, h.percent, h.stage, tandem.clock() FROM held AS h
ON CONFLICT (job_id) DO UPDATE
SET attempt = excluded.attempt, percent = excluded.percent, stage = excluded.stage, updated_at = excluded.updated_at
RETURNING p.job_id
