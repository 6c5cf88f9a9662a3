-- Every queue that is declared or holds jobs: what waits, since when, what runs, what died in the last 24 hours.
WITH ready AS (
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
    WHERE d.outcome = 'DEAD' AND d.finished_at > (SELECT tandem.clock()) - interval '24 hours' GROUP BY j.queue
), named AS (
    SELECT name AS queue FROM tandem.queue UNION SELECT queue FROM ready UNION SELECT queue FROM scheduled
    UNION SELECT queue FROM blocked UNION SELECT queue FROM running UNION SELECT queue FROM dead
)
SELECT queue, coalesce(r.jobs, 0) AS ready, r.oldest AS oldest_ready_at, coalesce(s.jobs, 0) AS scheduled, s.next_due,
       coalesce(b.jobs, 0) AS blocked, coalesce(l.jobs, 0) AS running, coalesce(d.jobs, 0) AS dead_24h,
       q.paused_at, q.paused_by, q.name IS NOT NULL AS declared
FROM named AS n
LEFT JOIN ready AS r USING (queue)
LEFT JOIN scheduled AS s USING (queue)
LEFT JOIN blocked AS b USING (queue)
LEFT JOIN running AS l USING (queue)
LEFT JOIN dead AS d USING (queue)
LEFT JOIN tandem.queue AS q ON q.name = n.queue
ORDER BY queue
