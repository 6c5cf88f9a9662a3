-- tandem.enqueue(kind, payload, ...): enqueues one job in the caller's transaction and answers its id. For programs
-- in any language; workers are woken when the caller commits. With unique_key, a repeat with the same payload answers
-- the first job's id, another payload raises unique_violation (23505).
CREATE OR REPLACE FUNCTION tandem.enqueue(
    kind text, payload jsonb DEFAULT '{}', queue text DEFAULT 'default', priority integer DEFAULT 5,
    run_at timestamptz DEFAULT NULL, partition_key text DEFAULT NULL, event_id uuid DEFAULT NULL,
    unique_key text DEFAULT NULL, unique_scope text DEFAULT 'forever', unique_period interval DEFAULT NULL,
    policy jsonb DEFAULT NULL, context jsonb DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
    at timestamptz;
    id bigint;
    mark text := 'tandem.queue_' || tandem.queue_number(queue);
    xid text;
    wakes boolean;
BEGIN
    IF NOT tandem.fits_size(payload, policy, context) THEN payload := tandem.refuse_size(payload, policy, context); END IF;
    IF unique_key IS NULL AND run_at IS NULL THEN  -- the common case, without the array machinery
        IF NOT tandem.fits_job(kind, queue, priority, partition_key) THEN kind := tandem.refuse_job(kind, queue, priority, partition_key); END IF;
        -- First the xid, then clock and position. The first row of a transaction and queue wakes it at the commit.
        xid := pg_current_xact_id();
        wakes := current_setting(mark, true) IS DISTINCT FROM xid;
        IF wakes THEN mark := set_config(mark, xid, true); END IF;
        at := tandem.clock();
        id := nextval('tandem.job_id');
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, policy, context)
        VALUES (id, at, event_id, priority, queue, kind, partition_key, payload, policy, context);
        INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, wakes, queue, partition_key)
        SELECT nextval('tandem.ready_position'), id, at, priority, 0, 0, false, wakes, queue, partition_key
        WHERE NOT EXISTS (SELECT FROM tandem.queue AS q WHERE q.name = queue AND q.managed);
        IF NOT FOUND THEN PERFORM tandem.block_job(id, at, queue, priority, partition_key, wakes); END IF;
        RETURN id;
    END IF;
    SELECT e.job_id, e.same_body INTO answer FROM tandem.enqueue_jobs(
        ARRAY[kind], ARRAY[payload], ARRAY[queue], ARRAY[priority]::smallint[], ARRAY[run_at], ARRAY[partition_key],
        ARRAY[event_id], ARRAY[policy], ARRAY[context],
        CASE WHEN unique_key IS NOT NULL THEN ARRAY[unique_key] END, ARRAY[unique_scope], ARRAY[unique_period]) AS e;
    IF NOT answer.same_body THEN
        RAISE EXCEPTION 'unique key "%" in queue "%" belongs to job % with another payload', unique_key, queue, answer.job_id
            USING ERRCODE = 'unique_violation', HINT = 'Use another key for another payload.';
    END IF;
    RETURN answer.job_id;
END
$$;
