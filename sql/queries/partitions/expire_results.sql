-- Forgets results past their time to live, some at a time; the job's row stays until its partition goes.
WITH old AS MATERIALIZED (
    SELECT d.job_id FROM tandem.done AS d
    WHERE d.result_expires_at <= (SELECT tandem.clock()) ORDER BY d.result_expires_at LIMIT %(most)s
)
UPDATE tandem.done AS d SET result = NULL, result_expires_at = NULL FROM old AS o WHERE d.job_id = o.job_id RETURNING d.job_id
