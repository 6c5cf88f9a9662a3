-- Which jobs have been due for more than 10 seconds and nobody claims them, although their queue is not paused?
-- One row per queue and table: `ready` waits for a worker, `scheduled` for the sweep to move it to ready.
-- jobs: how many. oldest: the longest wait. example: the job that waits longest. slots, held: what the live workers of
-- the queue can run and what they hold now (for all their queues). likely: where to look first.
-- What to do: start or scale workers for the queue, or a sweeper; "workers have room": sleepers.sql, floors.sql, log.
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
), due AS MATERIALIZED (
    SELECT 'ready' AS place, queue, count(*) AS jobs, min(ready_at) AS since, min(pos) AS first FROM tandem.ready
    WHERE ready_at < (SELECT at FROM clock) - interval '10 seconds' GROUP BY queue
    UNION ALL
    SELECT 'scheduled', queue, count(*), min(next_attempt_at), NULL FROM tandem.scheduled
    WHERE next_attempt_at < (SELECT at FROM clock) - interval '10 seconds' GROUP BY queue
), alive AS (
    SELECT id, queues, concurrency, (SELECT count(*) FROM tandem.lease AS l WHERE l.worker = w.id) AS held
    FROM tandem.worker AS w WHERE stopped_at IS NULL AND seen_at > (SELECT at FROM clock) - interval '1 minute'
), serving AS (
    SELECT d.queue, sum(a.concurrency) AS slots, sum(a.held) AS held
    FROM (SELECT DISTINCT queue FROM due) AS d JOIN alive AS a ON d.queue = ANY (a.queues) GROUP BY d.queue
)
SELECT d.queue, d.place, d.jobs, date_trunc('second', c.at - d.since) AS oldest, e.job_id AS example, j.kind,
       coalesce(s.slots, 0) AS slots, coalesce(s.held, 0) AS held,
       CASE WHEN d.place = 'scheduled' AND NOT EXISTS (SELECT FROM tandem.leader AS b WHERE b.name = 'sweeper' AND b.expires_at > c.at)
                 THEN 'nobody sweeps'
            WHEN d.place = 'scheduled' THEN 'the sweep is behind or fails: see its log'
            WHEN s.slots IS NULL THEN 'no live worker serves this queue'
            WHEN s.held >= s.slots THEN 'all slots are taken'
            ELSE 'workers have room' END AS likely
FROM due AS d CROSS JOIN clock AS c
LEFT JOIN serving AS s USING (queue)
LEFT JOIN tandem.queue AS q ON q.name = d.queue
LEFT JOIN LATERAL (
    SELECT r.job_id FROM tandem.ready AS r WHERE d.place = 'ready' AND r.queue = d.queue AND r.ready_at = d.since
    UNION ALL SELECT t.job_id FROM tandem.scheduled AS t
    WHERE d.place = 'scheduled' AND t.next_attempt_at = d.since AND t.queue = d.queue LIMIT 1) AS e ON true
LEFT JOIN tandem.job AS j ON j.id = e.job_id
WHERE q.paused_at IS NULL
ORDER BY d.queue, d.place;
