-- Jobs that do not stand in exactly one place, and places without a job: must answer no row. Reads every job.
WITH seen AS (
    SELECT id AS job_id, NULL::text AS place FROM tandem.job
    UNION ALL SELECT job_id, 'ready' FROM tandem.ready
    UNION ALL SELECT job_id, 'scheduled' FROM tandem.scheduled
    UNION ALL SELECT job_id, 'blocked' FROM tandem.blocked
    UNION ALL SELECT job_id, 'dependent' FROM tandem.dependent
    UNION ALL SELECT job_id, 'lease' FROM tandem.lease
    UNION ALL SELECT job_id, 'done' FROM tandem.done
)
SELECT job_id, CASE WHEN count(place) = 0 THEN 'nowhere' WHEN count(place) = count(*) THEN 'no job' ELSE 'twice' END AS problem,
       string_agg(place, ', ' ORDER BY place) AS places
FROM seen GROUP BY job_id HAVING count(place) <> 1 OR count(*) <> 2
ORDER BY job_id LIMIT %(most)s
