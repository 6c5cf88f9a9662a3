-- How much waits in each queue, and for how long?
-- ready: jobs that may be claimed now, the oldest for `waits`. scheduled: delayed jobs and retries, the first at `next_due`.
-- blocked: wait for a limit, a key or another job. running: leased to a worker, prefetched ones included.
-- dead_24h: dead letters of the last 24 hours. paused, paused_by: since when nothing is claimed from the queue, and who said so.
-- What to do: `waits` grows: due_not_claimed.sql says why. dead_24h is not 0: dead_letters.sql. next_due lies in the past
-- for more than a few seconds: nobody sweeps (workers.sql shows who leads). Reads all of ready, scheduled and lease.
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
), ready AS (
    SELECT queue, count(*) AS jobs, min(ready_at) AS oldest FROM tandem.ready GROUP BY queue
), scheduled AS (
    SELECT queue, count(*) AS jobs, min(next_attempt_at) AS next_due FROM tandem.scheduled GROUP BY queue
), blocked AS (
    SELECT queue, count(*) AS jobs FROM (SELECT queue FROM tandem.blocked UNION ALL SELECT queue FROM tandem.dependent) AS b
    GROUP BY queue
), running AS (
    SELECT queue, count(*) AS jobs FROM tandem.lease GROUP BY queue
), dead AS (
    SELECT j.queue, count(*) AS jobs FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
    WHERE d.outcome = 'DEAD' AND d.finished_at > (SELECT at FROM clock) - interval '24 hours' GROUP BY j.queue
), named AS (
    SELECT name AS queue FROM tandem.queue UNION SELECT queue FROM ready UNION SELECT queue FROM scheduled
    UNION SELECT queue FROM blocked UNION SELECT queue FROM running UNION SELECT queue FROM dead
)
SELECT queue, coalesce(r.jobs, 0) AS ready, date_trunc('second', c.at - r.oldest) AS waits,
       coalesce(s.jobs, 0) AS scheduled, date_trunc('second', s.next_due) AS next_due, coalesce(b.jobs, 0) AS blocked,
       coalesce(l.jobs, 0) AS running, coalesce(d.jobs, 0) AS dead_24h, date_trunc('second', q.paused_at) AS paused,
       q.paused_by
FROM named AS n CROSS JOIN clock AS c
LEFT JOIN ready AS r USING (queue)
LEFT JOIN scheduled AS s USING (queue)
LEFT JOIN blocked AS b USING (queue)
LEFT JOIN running AS l USING (queue)
LEFT JOIN dead AS d USING (queue)
LEFT JOIN tandem.queue AS q ON q.name = n.queue
ORDER BY queue;
