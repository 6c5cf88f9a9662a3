-- tandem.enqueue_jobs(...): enqueues many jobs in the caller's transaction, one array element each.
-- Arrays may be NULL or shorter: missing elements take the defaults. `wake` is 'commit' (a deferred trigger wakes
-- the workers when the caller commits) or 'none' (the caller calls tandem.wake after its commit).
-- Answers one row per job in the order given; `created` is false where a unique key already had its job.
CREATE OR REPLACE FUNCTION tandem.enqueue_jobs(
    kinds text[], payloads jsonb[], queues text[] DEFAULT NULL, priorities smallint[] DEFAULT NULL,
    run_ats timestamptz[] DEFAULT NULL, partition_keys text[] DEFAULT NULL, event_ids uuid[] DEFAULT NULL,
    policies jsonb[] DEFAULT NULL, contexts jsonb[] DEFAULT NULL,
    unique_keys text[] DEFAULT NULL, unique_scopes text[] DEFAULT NULL, unique_periods interval[] DEFAULT NULL,
    wake text DEFAULT 'commit'
) RETURNS TABLE (ord bigint, job_id bigint, created boolean, same_body boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    at timestamptz;
    ids bigint[];
BEGIN
    -- The transaction has its xid before any position and before the clock is read: the floors rest on that order.
    PERFORM pg_current_xact_id();
    at := tandem.clock();
    -- One day beyond the limit of 366 leaves room for the producer's clock; 'infinity' could not even be read back.
    IF EXISTS (SELECT FROM unnest(run_ats) AS u(run_at) WHERE u.run_at > at + interval '367 days') THEN
        RAISE EXCEPTION 'run_at is at most 366 days ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM tandem.refuse_size(u.payload, u.policy, u.context) FROM unnest(payloads, policies, contexts) AS u(payload, policy, context)
    WHERE NOT tandem.fits_size(u.payload, u.policy, u.context);
    IF wake = 'commit' THEN
        PERFORM tandem.wake_batch_at_commit(ARRAY(
            SELECT DISTINCT coalesce(u.queue, 'default') FROM unnest(kinds, queues, run_ats) AS u(kind, queue, run_at)
            WHERE u.kind IS NOT NULL AND coalesce(u.run_at <= at, true)));
    END IF;
    IF unique_keys IS NULL THEN
        SELECT array_agg(nextval('tandem.job_id')) INTO ids FROM unnest(kinds);
        PERFORM tandem.insert_jobs(at, ids, kinds, payloads, queues, priorities, run_ats, partition_keys, event_ids,
                                   policies, contexts);
        RETURN QUERY SELECT i.ord, i.id, true, true FROM unnest(ids) WITH ORDINALITY AS i(id, ord);
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM tandem.enqueue_unique(
        at, kinds, payloads, queues, priorities, run_ats, partition_keys, event_ids, policies, contexts,
        unique_keys, unique_scopes, unique_periods);
END
$$;
