-- Locks expired leases for rescue, oldest first, in (after, now]; rows locked by a running job.transaction() are skipped.
-- Kinds with a hook that this sweeper does not know are left for one that does.
SELECT l.job_id, l.token, l.worker, l.attempt, l.crashes, l.alone, l.expires_at, j.kind, j.event_id, k.hooked,
       coalesce((j.policy ->> 'crash_limit')::smallint, k.crash_limit, 3::smallint) AS crash_limit,
       EXISTS (SELECT FROM tandem.cancel_intent AS c WHERE c.job_id = l.job_id) AS cancelled
FROM tandem.lease AS l
JOIN tandem.job AS j ON j.id = l.job_id
LEFT JOIN tandem.kind AS k ON k.name = j.kind
WHERE l.expires_at > %(after)s AND l.expires_at <= (SELECT tandem.clock())
  AND (k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[]))
ORDER BY l.expires_at LIMIT %(most)s
FOR UPDATE OF l SKIP LOCKED
