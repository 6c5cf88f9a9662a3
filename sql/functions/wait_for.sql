-- tandem.wait_for(job, after, on_failure): lets a job that this transaction has just enqueued wait until the jobs `after` have
-- succeeded; answers its id. One that has succeeded already, or was dropped by retention, is not waited for. When one dies or
-- is cancelled, the job is cancelled ('cancel'), runs all the same ('run'), or waits for its redrive ('wait').
CREATE OR REPLACE FUNCTION tandem.wait_for(job bigint, after bigint[], on_failure text DEFAULT 'cancel') RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing bigint;
    unmet bigint[];
BEGIN
    IF on_failure IS NULL OR on_failure NOT IN ('cancel', 'run', 'wait') THEN
        RAISE EXCEPTION 'on_failure is cancel, run or wait, not %', on_failure USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT tandem.is_enqueued_here(job) THEN
        RAISE EXCEPTION 'job % was not enqueued by this transaction: it can no longer be made to wait', job
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Say it when you enqueue the job.';
    END IF;
    SELECT u.id INTO missing FROM unnest(after) AS u(id)
    WHERE NOT EXISTS (SELECT FROM tandem.job AS j WHERE j.id = u.id) AND NOT coalesce(tandem.is_dropped(u.id), false) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job % shall wait for job %, which does not exist', job, coalesce(missing::text, 'NULL')
            USING ERRCODE = 'foreign_key_violation', HINT = 'Enqueue and commit it first, or in this transaction.';
    END IF;
    IF EXISTS (SELECT FROM unnest(after) AS u(id) WHERE u.id >= job) THEN
        RAISE EXCEPTION 'job % can only wait for jobs that were enqueued before it', job USING ERRCODE = 'check_violation';
    END IF;
    SELECT array_agg(DISTINCT u.id) INTO unmet FROM unnest(after) AS u(id) JOIN tandem.job AS j ON j.id = u.id
    WHERE NOT EXISTS (SELECT FROM tandem.done AS d WHERE d.job_id = u.id AND d.outcome = 'SUCCEEDED');
    IF unmet IS NULL THEN
        RETURN job;
    END IF;
    WITH ready AS (
        DELETE FROM tandem.ready AS r WHERE r.job_id = job RETURNING r.priority, r.queue, r.partition_key, NULL::timestamptz AS run_at
    ), scheduled AS (
        DELETE FROM tandem.scheduled AS s WHERE s.job_id = job RETURNING s.priority, s.queue, s.partition_key, s.next_attempt_at
    ), blocked AS (
        DELETE FROM tandem.blocked AS b WHERE b.job_id = job RETURNING b.priority, b.queue, nullif(b.partition_key, '') AS partition_key
    )
    INSERT INTO tandem.dependent (job_id, held_at, run_at, priority, queue, partition_key, on_failure)
    SELECT job, tandem.clock(), m.run_at, m.priority, m.queue, m.partition_key, wait_for.on_failure
    FROM (SELECT priority, queue, partition_key, run_at FROM ready
          UNION ALL SELECT priority, queue, partition_key, next_attempt_at FROM scheduled
          UNION ALL SELECT priority, queue, partition_key, NULL FROM blocked) AS m;
    INSERT INTO tandem.dependency (after_job, job_id) SELECT u.id, job FROM unnest(unmet) AS u(id);
    RETURN job;
END
$$;
