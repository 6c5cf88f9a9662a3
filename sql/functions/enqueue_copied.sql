-- tandem.enqueue_copied(wake): makes jobs of the rows that this transaction has copied into pg_temp.tandem_copy and
-- empties it; answers the ids in the order of the copy. Missing columns take the defaults, `wake` is as in enqueue_jobs.
CREATE OR REPLACE FUNCTION tandem.enqueue_copied(wake text DEFAULT 'commit') RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz; copied bigint[]; waiting bigint;
    managed text[] := ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed);
BEGIN
    PERFORM tandem.check_copy();
    -- As in enqueue_jobs: first the xid, then clock and positions.
    PERFORM pg_current_xact_id();
    at := tandem.clock();
    IF EXISTS (SELECT FROM pg_temp.tandem_copy AS c WHERE c.run_at > at + interval '367 days') THEN
        RAISE EXCEPTION 'run_at is at most 366 days ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF wake = 'commit' THEN
        PERFORM tandem.wake_batch_at_commit(ARRAY(
            SELECT DISTINCT coalesce(c.queue, 'default') FROM pg_temp.tandem_copy AS c WHERE coalesce(c.run_at <= at, true)));
    END IF;
    WITH input AS MATERIALIZED (
        SELECT nextval('tandem.job_id') AS id, c.queue, c.priority, c.run_at, c.partition_key, c.event_id, c.policy,
               c.context, CASE WHEN tandem.fits_size(c.payload, c.policy, c.context) IS FALSE
                               THEN tandem.refuse_size(c.payload, c.policy, c.context) ELSE c.payload END AS payload,
               CASE WHEN tandem.fits_job(c.kind, c.queue, c.priority, c.partition_key) IS FALSE
                               THEN tandem.refuse_job(c.kind, c.queue, c.priority, c.partition_key) ELSE c.kind END AS kind
        FROM (SELECT s.kind, coalesce(s.payload, '{}')::jsonb AS payload, coalesce(s.queue, 'default') AS queue,
                     coalesce(s.priority, 5::smallint) AS priority, s.run_at, s.partition_key, s.event_id,
                     s.policy::jsonb AS policy, s.context::jsonb AS context
              FROM pg_temp.tandem_copy AS s ORDER BY s.ctid) AS c
    ), written AS (
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, policy, context)
        SELECT id, at, event_id, priority, queue, kind, partition_key, payload, policy, context FROM input
    ), later AS (
        INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
        SELECT run_at, id, priority, 0, 0, false, queue, partition_key FROM input WHERE run_at > at
    ), now AS (
        INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
        SELECT nextval('tandem.ready_position'), id, at, priority, 0, 0, false, queue, partition_key
        FROM input WHERE coalesce(run_at <= at, true) AND queue <> ALL (managed)
    )
    SELECT (SELECT array_agg(i.id) FROM input AS i), tandem.block_jobs(
        array_agg(id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(0::smallint),
        array_agg(0::smallint), array_agg(false), array_agg(at), array_agg(NULL::timestamptz), false)
    INTO copied, waiting FROM input WHERE coalesce(run_at <= at, true) AND queue = ANY (managed);
    TRUNCATE pg_temp.tandem_copy;
    RETURN coalesce(copied, '{}');
END
$$;
