-- The queue's functions as of this migration. Frozen: later edits come as later migrations.

-- tandem.clock(): the queue's one clock. Tests move it with SET tandem.clock_offset = '1 hour'.
CREATE OR REPLACE FUNCTION tandem.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp() + coalesce(nullif(current_setting('tandem.clock_offset', true), '')::interval, interval '0');

-- tandem.wake_lane(queue): the wake lane (0-31) of a queue. A lock per queue would exhaust the lock table.
CREATE OR REPLACE FUNCTION tandem.wake_lane(queue text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hashtext(queue) & 31;

-- tandem.wake(lanes): notifies the lanes on which somebody sleeps; call it after the commit.
-- A sleeper holds its lane's advisory lock shared: taking it exclusively proves that nobody sleeps. Lock and
-- unlock stand in one expression, so that no cancel can fall between them. Returns the number of notifications.
CREATE OR REPLACE FUNCTION tandem.wake(lanes integer[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane integer;
    notified integer := 0;
BEGIN
    FOREACH lane IN ARRAY lanes LOOP
        -- With the server's notification queue nearly full, NOTIFY would fail the commit; a sleeper looks by itself.
        IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE
           AND pg_notification_queue_usage() < 0.9 THEN
            PERFORM pg_notify('tandem_wake_' || lane, '');
            notified := notified + 1;
        END IF;
    END LOOP;
    RETURN notified;
END
$$;

-- tandem.wake_at_commit(lane): wakes the lane when the calling transaction commits, once however often called.
-- For transactions whose commit we do not see; tandem.enqueue marks its row in `ready` instead. The row lives only inside the transaction; its place is remembered, so
-- that its removal never reads the dead rows of others (they pile up while somebody holds an old snapshot).
CREATE OR REPLACE FUNCTION tandem.wake_at_commit(lane integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mark text := 'tandem.wake_' || lane;
    xid text := pg_current_xact_id()::text;
    place tid;
BEGIN
    IF current_setting(mark, true) IS DISTINCT FROM xid THEN
        INSERT INTO tandem.wake_request (lane) VALUES (lane) RETURNING ctid INTO place;
        PERFORM set_config(mark, xid, true), set_config('tandem.request_' || lane, place::text, true);
    END IF;
END
$$;

-- Trigger function behind tandem.wake_at_commit: runs deferred, at the commit, and removes its row.
CREATE OR REPLACE FUNCTION tandem.wake_requested() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text := coalesce(current_setting('tandem.request_' || NEW.lane, true), '');
BEGIN
    -- Without its place (the caller said RESET ALL) the row stays; nobody ever reads it.
    DELETE FROM tandem.wake_request WHERE ctid = nullif(place, '')::tid AND lane = NEW.lane;
    PERFORM tandem.wake(ARRAY[NEW.lane]);
    RETURN NULL;
END
$$;

-- Trigger function of `ready`, for the rows that tandem.enqueue marked: wakes their lane when the transaction commits.
CREATE OR REPLACE FUNCTION tandem.wake_ready() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane integer := tandem.wake_lane(NEW.queue);
BEGIN
    -- As in tandem.wake, without its loop.
    IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE THEN
        PERFORM pg_notify('tandem_wake_' || lane, '');
    END IF;
    RETURN NULL;
END
$$;

-- tandem.fits_job(kind, queue, priority, partition_key): whether a job may be called this. Internal; true or NULL passes.
-- A function that the planner writes out where it stands, and not CHECK constraints of the table: those are read from
-- the catalog again by every statement, a third of what one enqueue cost (docs/adr/0009).
CREATE OR REPLACE FUNCTION tandem.fits_job(kind text, queue text, priority integer, partition_key text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN kind COLLATE "C" ~ '^[a-z][a-z0-9_.-]*$' AND length(kind) <= 63
   AND queue COLLATE "C" ~ '^[a-z][a-z0-9_.-]*$' AND length(queue) <= 63
   AND priority BETWEEN 0 AND 9 AND coalesce(length(partition_key) BETWEEN 1 AND 255, true);

-- tandem.refuse_job(kind, queue, priority, partition_key): raises check_violation (23514) for what tandem.fits_job
-- does not let pass, and names it. Internal. Its type is that of a kind, so that it can stand where one is expected.
CREATE OR REPLACE FUNCTION tandem.refuse_job(kind text, queue text, priority integer, partition_key text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT tandem.fits_job(kind, 'default', 5, NULL) THEN
        RAISE EXCEPTION 'kind "%" is not a name', kind USING ERRCODE = 'check_violation', CONSTRAINT = 'job_kind_name',
            HINT = 'Lower-case letters, digits, ''_'', ''.'', ''-'', a letter first, at most 63.';
    ELSIF NOT tandem.fits_job('test', queue, 5, NULL) THEN
        RAISE EXCEPTION 'queue "%" is not a name', queue USING ERRCODE = 'check_violation', CONSTRAINT = 'job_queue_name',
            HINT = 'Lower-case letters, digits, ''_'', ''.'', ''-'', a letter first, at most 63.';
    ELSIF priority NOT BETWEEN 0 AND 9 THEN
        RAISE EXCEPTION 'priority % is not from 0 to 9', priority USING ERRCODE = 'check_violation', CONSTRAINT = 'job_priority';
    END IF;
    RAISE EXCEPTION 'a partition key has 1 to 255 characters, not %', length(partition_key)
        USING ERRCODE = 'check_violation', CONSTRAINT = 'job_partition_key';
END
$$;

-- tandem.fits_size(payload, policy, context): whether a job's documents are within the limits: 256 KiB, 16 KiB, 16 KiB, as
-- PostgreSQL writes them. Internal; true or NULL passes. Written out in place like tandem.fits_job. What takes 256 bytes as
-- jsonb is not written out to be measured: it could only be too large by 20 numbers of 100,000 digits.
CREATE OR REPLACE FUNCTION tandem.fits_size(payload jsonb, policy jsonb, context jsonb) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (pg_column_size(payload) <= 256 OR octet_length(payload::text) <= 262144)
   AND coalesce(octet_length(policy::text) <= 16384, true) AND coalesce(octet_length(context::text) <= 16384, true);

-- tandem.refuse_size(payload, policy, context): raises program_limit_exceeded (54000) for what tandem.fits_size does not let
-- pass, and names it. Internal. It answers nothing; its type is that of a payload.
CREATE OR REPLACE FUNCTION tandem.refuse_size(payload jsonb, policy jsonb, context jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    large boolean := octet_length(payload::text) > 262144;
    bytes bigint := CASE WHEN large THEN octet_length(payload::text) ELSE greatest(octet_length(policy::text), octet_length(context::text)) END;
BEGIN
    RAISE EXCEPTION '% of % bytes is over the limit of %', CASE WHEN large THEN 'payload' ELSE 'policy or context' END, bytes,
        CASE WHEN large THEN 262144 ELSE 16384 END
        USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and enqueue its key.';
END
$$;

-- tandem.holds_unique_key(scope, job): whether the job is still within its key's scope. Internal.
-- VOLATILE on purpose: the upsert may have waited for the first job's commit, which the statement's own snapshot lacks.
CREATE OR REPLACE FUNCTION tandem.holds_unique_key(scope text, job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN CASE scope
    WHEN 'unfinished' THEN NOT EXISTS (SELECT FROM tandem.done AS d WHERE d.job_id = job)
                           AND EXISTS (SELECT FROM tandem.job AS j WHERE j.id = job)
    WHEN 'pending' THEN EXISTS (SELECT FROM tandem.ready AS r WHERE r.job_id = job)
                        OR EXISTS (SELECT FROM tandem.scheduled AS s WHERE s.job_id = job)
                        OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.job_id = job)
    ELSE true END;

-- tandem.insert_jobs(...): writes jobs under ids already drawn, and their membership rows. Elements whose id is
-- NULL are left out. Internal: enqueue_jobs and enqueue_unique call it.
CREATE OR REPLACE FUNCTION tandem.insert_jobs(
    at timestamptz, ids bigint[], kinds text[], payloads jsonb[], queues text[], priorities smallint[],
    run_ats timestamptz[], partition_keys text[], event_ids uuid[], policies jsonb[], contexts jsonb[]
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH input AS MATERIALIZED (
    SELECT u.id, CASE WHEN tandem.fits_job(u.kind, d.queue, d.priority, u.partition_key) IS FALSE
                      THEN tandem.refuse_job(u.kind, d.queue, d.priority, u.partition_key) ELSE u.kind END AS kind,
           u.payload, d.queue, d.priority, u.run_at, u.partition_key, u.event_id, u.policy, u.context
    FROM unnest(ids, kinds, payloads, queues, priorities, run_ats, partition_keys, event_ids, policies, contexts)
        AS u(id, kind, payload, queue, priority, run_at, partition_key, event_id, policy, context)
    CROSS JOIN LATERAL (SELECT coalesce(u.queue, 'default') AS queue, coalesce(u.priority, 5::smallint) AS priority) AS d
    WHERE u.id IS NOT NULL
), written AS (
    INSERT INTO tandem.job
        (id, created_at, event_id, priority, queue, kind, partition_key, payload, policy, context)
    SELECT id, at, event_id, priority, queue, kind, partition_key, payload, policy, context FROM input
), later AS (
    INSERT INTO tandem.scheduled
        (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT run_at, id, priority, 0, 0, false, queue, partition_key FROM input WHERE run_at > at
)
INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
SELECT nextval('tandem.ready_position'), id, at, priority, 0, 0, false, queue, partition_key
FROM input WHERE coalesce(run_at <= at, true)
$$;

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
        PERFORM tandem.wake_at_commit(l.lane) FROM (
            SELECT DISTINCT tandem.wake_lane(coalesce(u.queue, 'default')) AS lane
            FROM unnest(kinds, queues, run_ats) AS u(kind, queue, run_at)
            WHERE u.kind IS NOT NULL AND coalesce(u.run_at <= at, true)) AS l;
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
    mark text := 'tandem.wake_' || tandem.wake_lane(queue);
    xid text;
    wakes boolean;
BEGIN
    IF octet_length(payload::text) > 262144 THEN
        RAISE EXCEPTION 'payload of % bytes is over the limit of 262144', octet_length(payload::text)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and enqueue its key.';
    END IF;
    IF unique_key IS NULL AND run_at IS NULL THEN  -- the common case, without the array machinery
        IF NOT tandem.fits_job(kind, queue, priority, partition_key) THEN
            kind := tandem.refuse_job(kind, queue, priority, partition_key);
        END IF;
        -- First the xid, then clock and position. The first row of a transaction and lane wakes it at the commit.
        xid := pg_current_xact_id();
        wakes := current_setting(mark, true) IS DISTINCT FROM xid;
        IF wakes THEN mark := set_config(mark, xid, true); END IF;
        at := tandem.clock();
        id := nextval('tandem.job_id');
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, policy, context)
        VALUES (id, at, event_id, priority, queue, kind, partition_key, payload, policy, context);
        INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, wakes, queue, partition_key)
        VALUES (nextval('tandem.ready_position'), id, at, priority, 0, 0, false, wakes, queue, partition_key);
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

-- tandem.check_copy(): raises unless pg_temp.tandem_copy is the table that begin_copy made. Internal. A caller could put
-- a view or table with triggers of its own in its place, whose code would then run with the rights of our functions.
CREATE OR REPLACE FUNCTION tandem.check_copy() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.oid = to_regclass('pg_temp.tandem_copy') AND c.relkind = 'r' AND c.relowner = quote_ident(current_user)::regrole
    ) THEN
        RAISE EXCEPTION 'pg_temp.tandem_copy is not the staging table of tandem.begin_copy()'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call tandem.begin_copy() first, in the same transaction.';
    END IF;
END
$$;

-- tandem.begin_copy(): makes sure that this session has its staging table pg_temp.tandem_copy, into which a producer COPYs
-- jobs in the same transaction, before tandem.enqueue_copied() makes jobs of them. Rows never outlive the transaction.
-- JSON is staged as text: a driver may have its own idea of how to send jsonb.
CREATE OR REPLACE FUNCTION tandem.begin_copy() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass('pg_temp.tandem_copy') IS NOT NULL THEN
        PERFORM tandem.check_copy();
        RETURN false;
    END IF;
    CREATE TEMPORARY TABLE tandem_copy (
        kind text COLLATE "C", payload text, queue text COLLATE "C", priority smallint, run_at timestamptz,
        partition_key text COLLATE "C", event_id uuid, policy text, context text
    ) ON COMMIT DELETE ROWS;
    GRANT INSERT ON pg_temp.tandem_copy TO PUBLIC;  -- a temporary table: nobody but this session can reach it
    RETURN true;
END
$$;

-- tandem.enqueue_copied(wake): makes jobs of the rows that this transaction has copied into pg_temp.tandem_copy and
-- empties it; answers the ids in the order of the copy. Missing columns take the defaults, `wake` is as in enqueue_jobs.
CREATE OR REPLACE FUNCTION tandem.enqueue_copied(wake text DEFAULT 'commit') RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz;
    copied bigint[];
BEGIN
    PERFORM tandem.check_copy();
    -- As in enqueue_jobs: first the xid, then clock and positions.
    PERFORM pg_current_xact_id();
    at := tandem.clock();
    IF EXISTS (SELECT FROM pg_temp.tandem_copy AS c WHERE c.run_at > at + interval '367 days') THEN
        RAISE EXCEPTION 'run_at is at most 366 days ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF wake = 'commit' THEN
        PERFORM tandem.wake_at_commit(l.lane) FROM (
            SELECT DISTINCT tandem.wake_lane(coalesce(c.queue, 'default')) AS lane
            FROM pg_temp.tandem_copy AS c WHERE coalesce(c.run_at <= at, true)) AS l;
    END IF;
    WITH input AS MATERIALIZED (
        SELECT nextval('tandem.job_id') AS id, c.payload, c.queue, c.priority, c.run_at, c.partition_key, c.event_id, c.policy,
               c.context, CASE WHEN tandem.fits_job(c.kind, c.queue, c.priority, c.partition_key) IS FALSE
                               THEN tandem.refuse_job(c.kind, c.queue, c.priority, c.partition_key) ELSE c.kind END AS kind
        FROM (SELECT s.kind, s.payload, coalesce(s.queue, 'default') AS queue, coalesce(s.priority, 5::smallint) AS priority,
                     s.run_at, s.partition_key, s.event_id, s.policy, s.context
              FROM pg_temp.tandem_copy AS s ORDER BY s.ctid) AS c
    ), written AS (
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, policy, context)
        SELECT id, at, event_id, priority, queue, kind, partition_key, coalesce(payload, '{}')::jsonb, policy::jsonb, context::jsonb
        FROM input
    ), later AS (
        INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
        SELECT run_at, id, priority, 0, 0, false, queue, partition_key FROM input WHERE run_at > at
    ), now AS (
        INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
        SELECT nextval('tandem.ready_position'), id, at, priority, 0, 0, false, queue, partition_key
        FROM input WHERE coalesce(run_at <= at, true)
    )
    SELECT array_agg(i.id) INTO copied FROM input AS i;
    TRUNCATE pg_temp.tandem_copy;
    RETURN coalesce(copied, '{}');
END
$$;

-- tandem.add_partition(number): makes partition `number` (ids from number * 10^8 on) of job, done and attempt.
-- The tables are made outside the parents' locks and then attached. Answers false where it is there already.
CREATE OR REPLACE FUNCTION tandem.add_partition(number bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text;
    child text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['job', 'done', 'attempt'] LOOP
        child := format('%s_%s', parent, number);
        IF to_regclass('tandem.' || child) IS NOT NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.%I INCLUDING ALL)', child, parent);
        EXECUTE format('ALTER TABLE tandem.%I ATTACH PARTITION tandem.%I FOR VALUES FROM (%s) TO (%s)',
                       parent, child, number * 100000000, (number + 1) * 100000000);
    END LOOP;
    RETURN true;
END
$$;

-- tandem.partition_survivors(number, before, most): ids of a partition that must outlive it: jobs that have not ended, and
-- jobs that ended after `before`. NULL when the partition is not old enough (its newest job is younger than
-- `before`) or has more than `most` survivors: then it is not worth dropping yet.
CREATE OR REPLACE FUNCTION tandem.partition_survivors(number bigint, before timestamptz, most integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := number * 100000000;
    past bigint := (number + 1) * 100000000;
    survivors bigint[];
BEGIN
    IF coalesce((SELECT j.created_at > before FROM tandem.job AS j WHERE j.id >= first AND j.id < past
                 ORDER BY j.id DESC LIMIT 1), false) THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(array_agg(s.job_id), '{}') INTO survivors FROM (
        SELECT u.job_id FROM (
            SELECT r.job_id FROM tandem.ready AS r WHERE r.job_id >= first AND r.job_id < past
            UNION SELECT l.job_id FROM tandem.lease AS l WHERE l.job_id >= first AND l.job_id < past
            UNION SELECT c.job_id FROM tandem.scheduled AS c WHERE c.job_id >= first AND c.job_id < past
            UNION SELECT b.job_id FROM tandem.blocked AS b WHERE b.job_id >= first AND b.job_id < past
            UNION SELECT d.job_id FROM tandem.done AS d WHERE d.job_id >= first AND d.job_id < past AND d.finished_at > before
        ) AS u LIMIT most + 1) AS s;
    RETURN CASE WHEN cardinality(survivors) <= most THEN survivors END;
END
$$;

-- tandem.drop_partition(number, survivors): drops a partition of job, done and attempt; the survivors move to the
-- default partitions (job_kept, ...), so that one of them never holds back the drop. Waits at most lock_timeout.
-- A job that came back meanwhile (a redrive) raises object_in_use (55006): nothing is dropped.
CREATE OR REPLACE FUNCTION tandem.drop_partition(number bigint, survivors bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := number * 100000000;
    past bigint := (number + 1) * 100000000;
    parent text;
    child text;
    id_column text;
    names text;
BEGIN
    LOCK TABLE tandem.job, tandem.done, tandem.attempt IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (
        SELECT FROM (SELECT r.job_id FROM tandem.ready AS r WHERE r.job_id >= first AND r.job_id < past
                     UNION ALL SELECT l.job_id FROM tandem.lease AS l WHERE l.job_id >= first AND l.job_id < past
                     UNION ALL SELECT c.job_id FROM tandem.scheduled AS c WHERE c.job_id >= first AND c.job_id < past
                     UNION ALL SELECT b.job_id FROM tandem.blocked AS b WHERE b.job_id >= first AND b.job_id < past) AS m
        WHERE m.job_id <> ALL (survivors)) THEN
        RAISE EXCEPTION 'partition % has unfinished jobs that are not among the survivors', number USING ERRCODE = 'object_in_use';
    END IF;
    FOREACH parent IN ARRAY ARRAY['attempt', 'done', 'job'] LOOP
        child := format('%s_%s', parent, number);
        id_column := CASE parent WHEN 'job' THEN 'id' ELSE 'job_id' END;
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO names FROM pg_attribute AS a
        WHERE a.attrelid = format('tandem.%I', parent)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
        EXECUTE format('ALTER TABLE tandem.%I DETACH PARTITION tandem.%I', parent, child);
        EXECUTE format('INSERT INTO tandem.%I (%s) SELECT %s FROM tandem.%I WHERE %I = ANY ($1)', parent, names, names, child, id_column)
            USING survivors;
        EXECUTE format('DROP TABLE tandem.%I', child);
    END LOOP;
    RETURN cardinality(survivors);
END
$$;

CREATE CONSTRAINT TRIGGER wake_requested AFTER INSERT ON tandem.wake_request
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tandem.wake_requested();

CREATE CONSTRAINT TRIGGER ready_wakes AFTER INSERT ON tandem.ready DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.wakes) EXECUTE FUNCTION tandem.wake_ready();

SELECT tandem.add_partition(0), tandem.add_partition(1);
