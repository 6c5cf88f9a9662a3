-- Does every job stand in exactly one place (ready, scheduled, blocked, dependent, lease, done)? Must answer no row.
-- problem: "nowhere" is a lost job, "twice" may run or count twice, "no job" is a place whose job is gone.
-- What to do: a row here is a bug of the queue or a change made by hand. Keep the row and the server's log and report it;
-- then put the job back by hand (nowhere), or delete the place that is wrong. Reads every job: 1 s per million.
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
ORDER BY job_id LIMIT 100;
