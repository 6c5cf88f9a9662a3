-- tandem.release_dependents(parents): draws the consequences for those who wait for these jobs, which have ended; answers each
-- dependent that may run now, and each that shall be cancelled (`doomed`), for which a cancel request is left. Internal.
-- The dependents' rows are locked before their dependencies are counted, in statements of their own: of two sweeps that
-- each see the other's last dependency, the later one releases the job.
CREATE OR REPLACE FUNCTION tandem.release_dependents(parents bigint[])
RETURNS TABLE (job_id bigint, queue text, doomed boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    affected bigint[];
    at timestamptz;
BEGIN
    PERFORM pg_current_xact_id();
    at := tandem.clock();
    SELECT array_agg(DISTINCT d.job_id) INTO affected FROM tandem.dependency AS d WHERE d.after_job = ANY (parents);
    PERFORM FROM tandem.dependent AS w WHERE w.job_id = ANY (affected) ORDER BY w.job_id FOR UPDATE;
    DELETE FROM tandem.dependency AS d WHERE d.after_job = ANY (parents) AND (
        EXISTS (SELECT FROM tandem.done AS e WHERE e.job_id = d.after_job AND e.outcome = 'SUCCEEDED')
        OR NOT EXISTS (SELECT FROM tandem.dependent AS w WHERE w.job_id = d.job_id AND w.on_failure <> 'run'));
    RETURN QUERY WITH asked AS (
        INSERT INTO tandem.cancel_intent (job_id, requested_at, requested_by, reason)
        SELECT DISTINCT ON (d.job_id) d.job_id, at, 'dependency', format('job %s, which it waited for, is %s', d.after_job,
               coalesce(e.outcome, 'gone'))
        FROM tandem.dependency AS d JOIN tandem.dependent AS w ON w.job_id = d.job_id
        LEFT JOIN tandem.done AS e ON e.job_id = d.after_job
        WHERE d.after_job = ANY (parents) AND (w.on_failure = 'cancel' OR e.outcome IS DISTINCT FROM 'DEAD')
        ORDER BY d.job_id, d.after_job
        ON CONFLICT DO NOTHING)
    SELECT d.job_id, w.queue, true FROM tandem.dependency AS d JOIN tandem.dependent AS w ON w.job_id = d.job_id
    LEFT JOIN tandem.done AS e ON e.job_id = d.after_job
    WHERE d.after_job = ANY (parents) AND (w.on_failure = 'cancel' OR e.outcome IS DISTINCT FROM 'DEAD')
    GROUP BY 1, 2;
    RETURN QUERY SELECT l.job_id, l.queue, false FROM tandem.let_go(affected, at) AS l;
END
$$;
