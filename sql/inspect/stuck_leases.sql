-- Which leases have run out without anybody taking the job back? At most 200, the oldest first.
-- expired_for: the lease lag. worker_seen: how long ago its worker wrote a heartbeat. leader: who sweeps now.
-- hooked: the kind has an outcome hook, so only a sweeper that knows this kind may take the job back.
-- What to do: up to some seconds is normal (the sweep looks every 5 s). No leader: start a worker or run
-- `tandem sweep --once`. A leader and hooked rows only: that sweeper lacks the kind; run one of the version that has it.
-- A row that stays although the kind is known: its rescue fails; the sweeper's log names the job.
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
), expired AS MATERIALIZED (
    SELECT job_id, worker, expires_at, attempt, queue FROM tandem.lease
    WHERE expires_at <= (SELECT at FROM clock) ORDER BY expires_at LIMIT 200
)
SELECT e.job_id AS job, j.kind, e.queue, e.attempt, date_trunc('milliseconds', c.at - e.expires_at) AS expired_for,
       coalesce(w.name, e.worker::text) AS worker, date_trunc('second', c.at - w.seen_at) AS worker_seen,
       coalesce(k.hooked, false) AS hooked,
       coalesce((SELECT coalesce(o.name, d.holder::text) FROM tandem.leader AS d LEFT JOIN tandem.worker AS o ON o.id = d.holder
                 WHERE d.name = 'sweeper' AND d.expires_at > c.at), 'nobody') AS leader
FROM expired AS e CROSS JOIN clock AS c
LEFT JOIN tandem.job AS j ON j.id = e.job_id
LEFT JOIN tandem.kind AS k ON k.name = j.kind
LEFT JOIN tandem.worker AS w ON w.id = e.worker
ORDER BY e.expires_at;
