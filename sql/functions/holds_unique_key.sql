-- tandem.holds_unique_key(scope, job): whether the job is still within its key's scope. Internal.
-- VOLATILE on purpose: the upsert may have waited for the first job's commit, which the statement's own snapshot lacks.
CREATE OR REPLACE FUNCTION tandem.holds_unique_key(scope text, job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN CASE scope
    WHEN 'unfinished' THEN NOT EXISTS (SELECT FROM tandem.done AS d WHERE d.job_id = job)
                           AND EXISTS (SELECT FROM tandem.job AS j WHERE j.id = job)
    WHEN 'pending' THEN EXISTS (SELECT FROM tandem.ready AS r WHERE r.job_id = job)
                        OR EXISTS (SELECT FROM tandem.scheduled AS s WHERE s.job_id = job)
                        OR EXISTS (SELECT FROM tandem.dependent AS w WHERE w.job_id = job)
                        OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.job_id = job)
    ELSE true END;
