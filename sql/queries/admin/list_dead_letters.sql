-- Dead letters, the latest first, filtered; a page begins behind (died_before, job_before).
SELECT d.job_id, j.kind, j.queue, j.priority, j.partition_key, d.attempt AS attempts, d.error_class, d.fingerprint, d.reason,
       d.finished_at AS died_at, d.worker, j.created_at, j.event_id
FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
WHERE d.outcome = 'DEAD' AND (d.finished_at, d.job_id) < (%(died_before)s::timestamptz, %(job_before)s::bigint)
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(fingerprint)s::text IS NULL OR d.fingerprint = %(fingerprint)s)
ORDER BY d.finished_at DESC, d.job_id DESC LIMIT %(most)s
