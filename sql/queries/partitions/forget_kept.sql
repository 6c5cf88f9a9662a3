-- Deletes kept jobs that ended before the retention time, some at a time: the default partitions stay small.
WITH old AS MATERIALIZED (
    SELECT d.job_id FROM tandem.done_kept AS d WHERE d.finished_at < tandem.clock() - %(retention)s::interval
      AND NOT EXISTS (SELECT FROM tandem.dependency AS n WHERE n.after_job = d.job_id)
    ORDER BY d.job_id LIMIT %(most)s
), attempts AS (
    DELETE FROM tandem.attempt_kept AS a USING old AS o WHERE a.job_id = o.job_id
), jobs AS (
    DELETE FROM tandem.job_kept AS j USING old AS o WHERE j.id = o.job_id
)
DELETE FROM tandem.done_kept AS d USING old AS o WHERE d.job_id = o.job_id RETURNING d.job_id
