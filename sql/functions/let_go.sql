-- tandem.let_go(jobs, at): those of these dependents that wait for nothing any more take their place in their queues, or wait
-- for their time; answers them. Internal: release_dependents calls it, with the dependents' rows locked.
CREATE OR REPLACE FUNCTION tandem.let_go(jobs bigint[], at timestamptz) RETURNS TABLE (job_id bigint, queue text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH free AS (
    DELETE FROM tandem.dependent AS w WHERE w.job_id = ANY (jobs)
    AND NOT EXISTS (SELECT FROM tandem.dependency AS d WHERE d.job_id = w.job_id)
    RETURNING w.job_id, w.run_at, w.priority, w.queue, w.partition_key
), placed AS MATERIALIZED (
    SELECT f.job_id, f.run_at, f.priority, f.queue, f.partition_key, coalesce(f.run_at <= at, true) AS due,
           EXISTS (SELECT FROM tandem.queue AS q WHERE q.name = f.queue AND q.managed) AS managed
    FROM free AS f ORDER BY f.job_id
), later AS (
    INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT p.run_at, p.job_id, p.priority, 0, 0, false, p.queue, p.partition_key FROM placed AS p WHERE NOT p.due
), now AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), p.job_id, at, p.priority, 0, 0, false, p.queue, p.partition_key
    FROM placed AS p WHERE p.due AND NOT p.managed
), waits AS MATERIALIZED (
    SELECT tandem.block_jobs(array_agg(p.job_id), array_agg(p.queue), array_agg(p.partition_key), array_agg(p.priority),
                             array_agg(0::smallint), array_agg(0::smallint), array_agg(false), array_agg(at),
                             array_agg(NULL::timestamptz), true)
    FROM placed AS p WHERE p.due AND p.managed
)
SELECT p.job_id, p.queue FROM placed AS p CROSS JOIN waits
$$;
