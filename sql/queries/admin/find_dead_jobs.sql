-- The ids of dead letters that died up to `died_until` and lie behind (died_after, job_after), the oldest first. Kinds
-- with a hook that the caller does not know are left out.
SELECT d.job_id, d.finished_at AS died_at
FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id LEFT JOIN tandem.kind AS k ON k.name = j.kind
WHERE d.outcome = 'DEAD' AND d.finished_at <= %(died_until)s::timestamptz
  AND (d.finished_at, d.job_id) > (%(died_after)s::timestamptz, %(job_after)s::bigint)
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(fingerprint)s::text IS NULL OR d.fingerprint = %(fingerprint)s)
  AND (k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[]))
ORDER BY d.finished_at, d.job_id LIMIT %(most)s
