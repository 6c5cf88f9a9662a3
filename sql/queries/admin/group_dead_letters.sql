-- Dead letters grouped by what went wrong and where (fingerprint), the largest groups first; `example` died last.
WITH dead AS MATERIALIZED (
    SELECT d.fingerprint, d.error_class, count(*) AS jobs, min(d.finished_at) AS first_died_at,
           max(d.finished_at) AS last_died_at, (array_agg(d.job_id ORDER BY d.finished_at DESC, d.job_id DESC))[1] AS example
    FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
    WHERE d.outcome = 'DEAD'
      AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
    GROUP BY d.fingerprint, d.error_class
)
SELECT d.fingerprint, d.error_class, d.jobs, d.first_died_at, d.last_died_at, d.example, j.kind, j.queue, o.reason
FROM dead AS d
LEFT JOIN tandem.done AS o ON o.job_id = d.example
LEFT JOIN tandem.job AS j ON j.id = d.example
ORDER BY d.jobs DESC, d.last_died_at DESC, d.example LIMIT %(most)s
