-- Deletes dead letters for good, with their jobs, failed tries and cancel requests: up to `most`, the oldest first, of those
-- that died up to `died_until` and lie behind (died_after, job_after). One that is being redriven is skipped. Unique keys
-- stay, so that a repeat makes no second job. Of deliveries it answers the position, for the audit log: the job is gone then.
WITH dead AS MATERIALIZED (
    SELECT d.job_id, j.queue,
           CASE WHEN starts_with(j.queue, 'topic.') THEN substring(j.payload ->> 'position' FROM '^[0-9]{1,18}$')::bigint END AS position
    FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
    WHERE d.outcome = 'DEAD' AND d.finished_at <= %(died_until)s::timestamptz
      AND (d.finished_at, d.job_id) > (%(died_after)s::timestamptz, %(job_after)s::bigint)
      AND (%(job_ids)s::bigint[] IS NULL OR d.job_id = ANY (%(job_ids)s::bigint[]))
      AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
      AND (%(fingerprint)s::text IS NULL OR d.fingerprint = %(fingerprint)s)
    ORDER BY d.finished_at, d.job_id LIMIT %(most)s FOR UPDATE OF d SKIP LOCKED
), gone AS (
    DELETE FROM tandem.done AS d USING dead AS x WHERE d.job_id = x.job_id AND d.outcome = 'DEAD'
    RETURNING d.job_id, d.finished_at, x.queue, x.position
), untried AS (
    DELETE FROM tandem.attempt AS a USING gone AS g WHERE a.job_id = g.job_id
), unasked AS (
    DELETE FROM tandem.cancel_intent AS c USING gone AS g WHERE c.job_id = g.job_id
), resumed AS (  -- a key that stopped behind it goes on without it
    DELETE FROM tandem.halted AS h USING gone AS g WHERE h.job_id = g.job_id RETURNING h.queue, h.partition_key
), told AS (
    INSERT INTO tandem.touch (queue, partition_key) SELECT r.queue, r.partition_key FROM resumed AS r
), forgotten AS (
    DELETE FROM tandem.job AS j USING gone AS g WHERE j.id = g.job_id
)
SELECT g.job_id, g.finished_at AS died_at, g.queue, g.position FROM gone AS g ORDER BY g.finished_at, g.job_id
