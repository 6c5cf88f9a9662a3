-- Which kinds take longest? Over the newest 20,000 finished jobs (by id), the slowest first.
-- jobs: how many of them. p50, p95, longest: seconds from the start of the last try to its end. waited: median seconds
-- from enqueue to that start, delays and earlier tries included. failed: share that died, in percent.
-- What to do: p95 near the kind's timeout: raise the timeout or split the job; longest far above p95: look at that job.
WITH newest AS MATERIALIZED (
    SELECT job_id, started_at, finished_at, outcome FROM tandem.done ORDER BY job_id DESC LIMIT 20000
), timed AS (
    SELECT j.kind, n.outcome, extract(epoch FROM n.finished_at - n.started_at) AS ran,
           extract(epoch FROM n.started_at - j.created_at) AS waited
    FROM newest AS n JOIN tandem.job AS j ON j.id = n.job_id WHERE n.started_at IS NOT NULL
)
SELECT kind, count(*) AS jobs,
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ran))::numeric, 3) AS p50,
       round((percentile_cont(0.95) WITHIN GROUP (ORDER BY ran))::numeric, 3) AS p95,
       round(max(ran), 3) AS longest,
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY waited))::numeric, 3) AS waited,
       round(100.0 * count(*) FILTER (WHERE outcome = 'DEAD') / count(*), 1) AS failed
FROM timed GROUP BY kind ORDER BY p95 DESC, kind;
