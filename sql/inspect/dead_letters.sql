-- Which failures ended as dead letters, grouped by what went wrong and where? The largest groups first.
-- fingerprint: equal for failures of one type at one place in the code, whatever their message. jobs: how many.
-- first, last: when they died. example: the job that died last, with its kind, queue and message.
-- What to do: read the example's traceback (SELECT traceback FROM tandem.attempt WHERE job_id = ...), mend the cause,
-- then redrive the group (docs/operate.md, "Dead letters"). Reads the index of dead letters only.
WITH dead AS MATERIALIZED (
    SELECT fingerprint, error_class, count(*) AS jobs, min(finished_at) AS first, max(finished_at) AS last,
           (array_agg(job_id ORDER BY finished_at DESC, job_id DESC))[1] AS example
    FROM tandem.done WHERE outcome = 'DEAD' GROUP BY fingerprint, error_class
)
SELECT d.fingerprint, d.error_class, d.jobs, date_trunc('second', d.first) AS first, date_trunc('second', d.last) AS last,
       d.example, j.kind, j.queue, o.attempt AS attempts, left(regexp_replace(o.reason, '\s+', ' ', 'g'), 120) AS message
FROM dead AS d
LEFT JOIN tandem.done AS o ON o.job_id = d.example
LEFT JOIN tandem.job AS j ON j.id = d.example
ORDER BY d.jobs DESC, d.last DESC LIMIT 100;
