-- Which way of finding jobs is quicker: the wait from enqueue to start, by the mode of the worker that ran the job.
-- Over the latest 100,000 jobs that ended at their first try. Read p50 and p99: a polling worker's p50 is half of its
-- poll interval. When `poll` is worse in every column, and `listen` or `hybrid` ran beside it for a day, stop the
-- polling workers (docs/conversations.md, cut-over).
WITH latest AS (
    SELECT d.job_id, d.worker, d.started_at, d.attempt FROM tandem.done AS d
    WHERE d.outcome = 'SUCCEEDED' ORDER BY d.job_id DESC LIMIT 100000
), waits AS (
    SELECT w.mode, w.id AS worker, extract(epoch FROM l.started_at - j.created_at) * 1000 AS wait_ms
    FROM latest AS l JOIN tandem.worker AS w ON w.id = l.worker JOIN tandem.job AS j ON j.id = l.job_id
    WHERE l.attempt = 1
)
SELECT mode, count(DISTINCT worker) AS workers, count(*) AS jobs,
       round(percentile_cont(0.50) WITHIN GROUP (ORDER BY wait_ms)::numeric, 1) AS p50_ms,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY wait_ms)::numeric, 1) AS p95_ms,
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY wait_ms)::numeric, 1) AS p99_ms,
       round(max(wait_ms)::numeric, 1) AS max_ms
FROM waits GROUP BY mode ORDER BY p50_ms;
