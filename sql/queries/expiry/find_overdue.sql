-- Jobs whose start deadline has passed, in (after, now], the earliest first. Kinds with a hook that the caller does not know
-- are left out.
SELECT d.job_id, d.start_by FROM tandem.start_deadline AS d
JOIN tandem.job AS j ON j.id = d.job_id LEFT JOIN tandem.kind AS k ON k.name = j.kind
WHERE d.start_by > %(after)s::timestamptz AND d.start_by <= (SELECT tandem.clock())
  AND (k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[]))
ORDER BY d.start_by, d.job_id LIMIT %(most)s
