-- Locks expired leases for rescue, oldest first, behind (after, after_job) and not after now; rows locked by a running
-- job.transaction() are skipped. Many leases share an expiry: the job's id tells where a page ended.
-- Kinds with a hook that this sweeper does not know are left for one that does. Anybody may have written the policy.
SELECT l.job_id, l.token, l.worker, l.attempt, l.crashes, l.alone, l.expires_at, j.kind, j.event_id, k.hooked,
       coalesce(CASE WHEN jsonb_typeof(j.policy -> 'crash_limit') = 'number'
                     THEN least(greatest((j.policy ->> 'crash_limit')::numeric, 1), 32767)::smallint END,
                k.crash_limit, 3::smallint) AS crash_limit,
       EXISTS (SELECT FROM tandem.cancel_intent AS c WHERE c.job_id = l.job_id) AS cancelled
FROM tandem.lease AS l
JOIN tandem.job AS j ON j.id = l.job_id
LEFT JOIN tandem.kind AS k ON k.name = j.kind
WHERE l.expires_at >= %(after)s AND (l.expires_at, l.job_id) > (%(after)s, %(after_job)s)
  AND l.expires_at <= (SELECT tandem.clock())
  AND (k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[]))
ORDER BY l.expires_at, l.job_id LIMIT %(most)s
FOR UPDATE OF l SKIP LOCKED
