-- Jobs behind `after` that were asked to be cancelled and do not run: they wait, or they ended by themselves. Waiting ones
-- of kinds with a hook that the caller does not know are left out.
SELECT i.job_id FROM tandem.cancel_intent AS i
JOIN tandem.job AS j ON j.id = i.job_id LEFT JOIN tandem.kind AS k ON k.name = j.kind
WHERE i.job_id > %(after)s AND NOT EXISTS (SELECT FROM tandem.lease AS l WHERE l.job_id = i.job_id)
  AND (k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[])
       OR EXISTS (SELECT FROM tandem.done AS d WHERE d.job_id = i.job_id))
ORDER BY i.job_id LIMIT %(most)s
