-- tandem.is_dropped(job): whether the id lies in a partition that retention has dropped: such a job has ended. Internal.
CREATE OR REPLACE FUNCTION tandem.is_dropped(job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN job > 0 AND to_regclass('tandem.job_' || job / 100000000) IS NULL AND job <= (SELECT s.last_value FROM tandem.job_id AS s);
