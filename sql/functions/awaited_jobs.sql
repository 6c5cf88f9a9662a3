-- tandem.awaited_jobs(job): in words, what a dependent still waits for. Internal: for tandem.explain.
CREATE OR REPLACE FUNCTION tandem.awaited_jobs(job bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('job %s', string_agg(format('%s (%s)', d.after_job, coalesce(
           (SELECT s.status FROM tandem.job_status AS s WHERE s.job_id = d.after_job), 'gone')), ', ' ORDER BY d.after_job)
           FILTER (WHERE d.number <= 3))
       || CASE WHEN count(*) > 3 THEN format(' and %s%s more', least(count(*), 1000) - 3, CASE WHEN count(*) > 1000 THEN ' or' END) ELSE '' END
FROM (SELECT n.after_job, row_number() OVER (ORDER BY n.after_job) AS number
      FROM (SELECT l.after_job FROM tandem.dependency AS l WHERE l.job_id = $1 LIMIT 1001) AS n) AS d
$$;
