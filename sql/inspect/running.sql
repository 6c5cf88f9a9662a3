-- What runs where? The 200 jobs that are held longest, oldest first.
-- worker: host and process id. held_for: since the claim; a prefetched job is held for a moment before it starts.
-- lease_left: until the lease ends unless a heartbeat extends it; negative: the sweep will take the job back.
-- note: "suspect" had its worker die before and runs alone; "cancel asked": its worker has been told, or will be by a heartbeat.
-- What to do: held_for far above the kind's usual time (slowest_kinds.sql): look at that worker's log; cancel the job.
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
), held AS MATERIALIZED (
    SELECT job_id, worker, claimed_at, expires_at, attempt, suspect, alone, queue
    FROM tandem.lease ORDER BY claimed_at, job_id LIMIT 200
)
SELECT coalesce(w.name, h.worker::text) AS worker, h.job_id AS job, j.kind, h.queue, h.attempt,
       date_trunc('milliseconds', c.at - h.claimed_at) AS held_for,
       date_trunc('milliseconds', h.expires_at - c.at) AS lease_left,
       concat_ws(', ', CASE WHEN h.alone THEN 'suspect, runs alone' WHEN h.suspect THEN 'suspect' END,
                 CASE WHEN i.job_id IS NOT NULL THEN 'cancel asked' END) AS note
FROM held AS h CROSS JOIN clock AS c
LEFT JOIN tandem.job AS j ON j.id = h.job_id
LEFT JOIN tandem.worker AS w ON w.id = h.worker
LEFT JOIN tandem.cancel_intent AS i ON i.job_id = h.job_id
ORDER BY h.claimed_at, h.job_id;
