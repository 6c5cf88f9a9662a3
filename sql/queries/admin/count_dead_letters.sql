-- How many dead letters fit a filter.
SELECT count(*) AS jobs FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
WHERE d.outcome = 'DEAD' AND d.finished_at <= %(died_until)s::timestamptz
  AND (%(job_ids)s::bigint[] IS NULL OR d.job_id = ANY (%(job_ids)s::bigint[]))
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
  AND (%(fingerprint)s::text IS NULL OR d.fingerprint = %(fingerprint)s)
