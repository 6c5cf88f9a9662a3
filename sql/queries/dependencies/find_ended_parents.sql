-- Of the next `most` jobs behind `after` that others wait for: how many there are, the last one, and those that have ended
-- (or are gone). One index probe per job and one into `done`.
WITH RECURSIVE parent AS (
    (SELECT d.after_job FROM tandem.dependency AS d WHERE d.after_job > %(after)s::bigint ORDER BY d.after_job LIMIT 1)
    UNION ALL
    SELECT (SELECT d.after_job FROM tandem.dependency AS d WHERE d.after_job > p.after_job ORDER BY d.after_job LIMIT 1)
    FROM parent AS p WHERE p.after_job IS NOT NULL
), looked AS MATERIALIZED (
    SELECT p.after_job FROM parent AS p WHERE p.after_job IS NOT NULL LIMIT %(most)s
)
SELECT count(*) AS looked, max(l.after_job) AS last,
       coalesce(array_agg(l.after_job ORDER BY l.after_job) FILTER (WHERE
           EXISTS (SELECT FROM tandem.done AS d WHERE d.job_id = l.after_job)
           OR NOT EXISTS (SELECT FROM tandem.job AS j WHERE j.id = l.after_job)), '{}') AS ended
FROM looked AS l
