-- Which workers are there, and which one leads the sweep? Those of the last 24 hours, the newest first.
-- state: alive; silent (no heartbeat for a minute: killed, stuck or cut off); stopped (a clean end). seen: the last
-- heartbeat. held: leases it holds now, prefetched jobs included; slots: how many jobs it runs at once.
-- What to do: silent with held > 0: nothing, its leases run out and the sweep takes the jobs back (stuck_leases.sql
-- shows those it has not). No row with leads = t: nobody sweeps. Whether a job runs is said by leases, never by this.
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
), held AS (
    SELECT worker, count(*) AS jobs FROM tandem.lease GROUP BY worker
)
SELECT w.name AS worker, CASE WHEN w.stopped_at IS NOT NULL THEN 'stopped'
                              WHEN w.seen_at < c.at - interval '1 minute' THEN 'silent' ELSE 'alive' END AS state,
       EXISTS (SELECT FROM tandem.leader AS d WHERE d.holder = w.id AND d.name = 'sweeper' AND d.expires_at > c.at) AS leads,
       array_to_string(w.queues, ', ') AS queues, w.mode, w.concurrency AS slots, coalesce(h.jobs, 0) AS held,
       date_trunc('second', c.at - w.seen_at) AS seen, date_trunc('second', w.started_at) AS started, w.version
FROM tandem.worker AS w CROSS JOIN clock AS c LEFT JOIN held AS h ON h.worker = w.id
WHERE w.seen_at > c.at - interval '24 hours' OR h.jobs > 0
ORDER BY w.started_at DESC, w.name LIMIT 200;
