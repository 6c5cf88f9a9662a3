-- tandem.enqueue_unique(...): enqueue_jobs for jobs of which some carry a unique key. Internal.
-- The key's row decides: the upsert answers the candidate's id where the key was free (new, expired, or its job is
-- past the scope) and the first job's id otherwise. Scopes are judged here, so claim and finish never touch keys.
CREATE OR REPLACE FUNCTION tandem.enqueue_unique(
    at timestamptz, kinds text[], payloads jsonb[], queues text[], priorities smallint[], run_ats timestamptz[],
    partition_keys text[], event_ids uuid[], policies jsonb[], contexts jsonb[],
    unique_keys text[], unique_scopes text[], unique_periods interval[]
) RETURNS TABLE (ord bigint, job_id bigint, created boolean, same_body boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ids bigint[]; owners bigint[]; hashes bytea[]; same boolean[]; fresh bigint[];
BEGIN
    IF EXISTS (SELECT FROM unnest(unique_keys, unique_scopes, unique_periods) AS u(key, scope, period)
               WHERE u.key IS NOT NULL AND (coalesce(u.scope, 'forever') = 'period') <> (u.period IS NOT NULL)) THEN
        RAISE EXCEPTION 'a period goes with unique scope ''period'', and only with it' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT array_agg(nextval('tandem.job_id') ORDER BY u.ord), array_agg(sha256(convert_to(u.body::text, 'UTF8')) ORDER BY u.ord)
    INTO ids, hashes FROM unnest(kinds, payloads) WITH ORDINALITY AS u(kind, body, ord) WHERE u.ord <= cardinality(kinds);
    WITH input AS MATERIALIZED (
        SELECT u.ord, u.id, u.hash, u.key, coalesce(u.scope, 'forever') AS scope, coalesce(u.queue, 'default') AS queue,
               at + u.period AS expires_at
        FROM unnest(ids, hashes, unique_keys, unique_scopes, queues, unique_periods) WITH ORDINALITY
            AS u(id, hash, key, scope, queue, period, ord)
    ), firsts AS (  -- one row per key, in key order: a batch that names a key twice, and batches in any order
        SELECT DISTINCT ON (scope, queue, key) id, hash, key, scope, queue, expires_at
        FROM input WHERE key IS NOT NULL ORDER BY scope, queue, key, ord
    ), held AS (
        INSERT INTO tandem.unique_key AS k (scope, queue, key, job_id, body_hash, expires_at)
        SELECT scope, queue, key, id, hash, expires_at FROM firsts
        ON CONFLICT (scope, queue, key) DO UPDATE SET (job_id, body_hash, expires_at) = (
            SELECT CASE WHEN f.free THEN excluded.job_id ELSE k.job_id END,
                   CASE WHEN f.free THEN excluded.body_hash ELSE k.body_hash END,
                   CASE WHEN f.free THEN excluded.expires_at ELSE k.expires_at END
            FROM (SELECT coalesce(k.expires_at <= at, false)
                         OR NOT tandem.holds_unique_key(k.scope, k.job_id) AS free) AS f)
        RETURNING k.scope, k.queue, k.key, k.job_id, k.body_hash
    )
    SELECT array_agg(coalesce(h.job_id, i.id) ORDER BY i.ord), array_agg(coalesce(h.body_hash = i.hash, true) ORDER BY i.ord),
           array_agg(CASE WHEN coalesce(h.job_id, i.id) = i.id THEN i.id END ORDER BY i.ord)
    INTO owners, same, fresh
    FROM input AS i LEFT JOIN held AS h USING (scope, queue, key);
    PERFORM tandem.insert_jobs(at, fresh, kinds, payloads, queues, priorities, run_ats, partition_keys, event_ids, policies, contexts);
    RETURN QUERY SELECT o.ord, o.id, o.fresh IS NOT NULL, o.same FROM unnest(owners, fresh, same) WITH ORDINALITY AS o(id, fresh, same, ord);
END
$$;
