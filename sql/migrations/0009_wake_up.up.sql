-- A wake-up tells two of a queue's sleepers instead of all. Frozen: later changes come as later migrations.
ALTER TABLE tandem.wake_request ADD COLUMN queue text COLLATE "C";
COMMENT ON COLUMN tandem.wake_request.queue IS 'two of those who sleep on it are told; NULL: all who sleep on the lane';

-- tandem.queue_number(queue): a queue in names of channels and session settings.
CREATE OR REPLACE FUNCTION tandem.queue_number(queue text) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hashtext(queue)::bigint & 4294967295;

-- tandem.wake_sleepers(queue): of those who sleep on a queue, tells two; the others sleep on. Answers how many were told.
-- A sleeper holds its seat's lock (the queue's hash, 1413565200 + seat) exclusively. Probes share it: two never take each other for a sleeper.
-- Whoever is told looks, and tells two more where it could not take all there was (workers/producer.py). Few statements: each
-- costs a transaction more than a probe does. Two are told, so that no job waits for one that is slow, stands still or has just died.
CREATE OR REPLACE FUNCTION tandem.wake_sleepers(queue text) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Who sits on seat 2 or 3, asleep or not, is the third worker or more. With fewer no probe is wasted on other seats.
    few boolean := pg_try_advisory_lock_shared(hashtext(queue), 1413565102) AND pg_advisory_unlock_shared(hashtext(queue), 1413565102)
        AND pg_try_advisory_lock_shared(hashtext(queue), 1413565103) AND pg_advisory_unlock_shared(hashtext(queue), 1413565103);
    seat integer := CASE WHEN few THEN 1 ELSE floor(random() * 64) END;
    other integer;
    told integer := 0;
BEGIN
    -- Down by random steps: however many of the low seats are taken, each of them is found about equally often.
    WHILE seat >= 0 AND pg_try_advisory_lock_shared(hashtext(queue), 1413565200 + seat)
          AND pg_advisory_unlock_shared(hashtext(queue), 1413565200 + seat) LOOP
        seat := CASE seat WHEN 0 THEN -1 ELSE floor(random() * seat) END;
    END LOOP;
    IF seat < 0 THEN
        -- Another producer's probe of the lane looks like a sleeper, and so does one of another queue; some have no seat.
        IF pg_try_advisory_lock(1413565006, tandem.wake_lane(queue)) AND pg_advisory_unlock(1413565006, tandem.wake_lane(queue)) THEN
            RETURN 0;
        END IF;
        few := false;
        seat := 1;
        WHILE seat < 64 AND pg_try_advisory_lock_shared(hashtext(queue), 1413565200 + seat)
              AND pg_advisory_unlock_shared(hashtext(queue), 1413565200 + seat) LOOP
            seat := seat + 1;
        END LOOP;
        IF seat = 64 THEN
            IF pg_try_advisory_lock(1413565006, 32 + tandem.wake_lane(queue)) AND pg_advisory_unlock(1413565006, 32 + tandem.wake_lane(queue)) THEN
                RETURN 0;
            END IF;
            PERFORM pg_notify('tandem_wake_' || tandem.wake_lane(queue), '');
            RETURN 1;
        END IF;
    END IF;
    FOR nth IN 0..CASE WHEN few THEN seat ELSE 16 END LOOP  -- the seat, those below, then those above
        other := CASE WHEN nth <= seat THEN seat - nth ELSE nth END;
        CONTINUE WHEN nth > 0 AND pg_try_advisory_lock_shared(hashtext(queue), 1413565200 + other)
                      AND pg_advisory_unlock_shared(hashtext(queue), 1413565200 + other);
        told := told + (pg_notify('tandem_seat_' || tandem.queue_number(queue) || '_' || other, '') IS NOT NULL)::integer;  -- no PERFORM: that is a query
        EXIT WHEN told = 2;
    END LOOP;
    RETURN told;
END
$$;

-- tandem.wake_queues(queues): wakes two of those who sleep on each of the queues; call it after the commit. Returns the
-- number of notifications. A session that sleeps itself does not tell itself.
CREATE OR REPLACE FUNCTION tandem.wake_queues(queues text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text;
    lane integer;
    notified integer := 0;
BEGIN
    FOREACH queue IN ARRAY queues LOOP
        lane := tandem.wake_lane(queue);
        -- As in tandem.wake.
        IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE
           AND pg_notification_queue_usage() < 0.9 THEN
            notified := notified + tandem.wake_sleepers(queue);
        END IF;
    END LOOP;
    RETURN notified;
END
$$;

-- tandem.wake_queue_at_commit(queue): wakes two of the queue's sleepers when the calling transaction commits, once however
-- often called. As tandem.wake_at_commit, which tells all sleepers of a lane.
CREATE OR REPLACE FUNCTION tandem.wake_queue_at_commit(queue text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mark text := 'tandem.queue_' || tandem.queue_number(queue);
    xid text := pg_current_xact_id()::text;
    place tid;
BEGIN
    IF current_setting(mark, true) IS DISTINCT FROM xid THEN
        INSERT INTO tandem.wake_request (lane, queue) VALUES (tandem.wake_lane(queue), queue) RETURNING ctid INTO place;
        PERFORM set_config(mark, xid, true), set_config('tandem.place_' || tandem.queue_number(queue), place::text, true);
    END IF;
END
$$;

-- tandem.wake_batch_at_commit(queues): wakes who serves these queues when the calling transaction commits: two sleepers of
-- each, or for many queues all sleepers of their lanes, of which there are 32. Names may repeat.
CREATE OR REPLACE FUNCTION tandem.wake_batch_at_commit(queues text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names CONSTANT text[] := ARRAY(SELECT DISTINCT q FROM unnest(queues) AS q);
    lanes CONSTANT integer[] := ARRAY(SELECT DISTINCT tandem.wake_lane(q) FROM unnest(names) AS q);
BEGIN
    IF cardinality(names) <= 8 THEN
        PERFORM tandem.wake_queue_at_commit(q) FROM unnest(names) AS q;
    ELSE
        PERFORM tandem.wake_at_commit(l) FROM unnest(lanes) AS l;
    END IF;
END
$$;

-- tandem.wake(lanes): notifies all who sleep on the lanes; call it after the commit. tandem.wake_queues tells two of a queue.
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

-- Trigger function of `ready`, for the rows that tandem.enqueue marked: wakes who sleeps on their queue when the transaction commits.
CREATE OR REPLACE FUNCTION tandem.wake_ready() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane integer := tandem.wake_lane(NEW.queue);
    told integer;
BEGIN
    -- As in tandem.wake, without its loop.
    IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE
       AND pg_notification_queue_usage() < 0.9 THEN
        told := tandem.wake_sleepers(NEW.queue);  -- no PERFORM: that is a query
    END IF;
    RETURN NULL;
END
$$;

-- Trigger function behind tandem.wake_at_commit and wake_queue_at_commit: runs deferred, at the commit, and removes its row.
CREATE OR REPLACE FUNCTION tandem.wake_requested() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text := coalesce(current_setting(
        coalesce('tandem.place_' || tandem.queue_number(NEW.queue), 'tandem.request_' || NEW.lane), true), '');
BEGIN
    -- Without its place (the caller said RESET ALL) the row stays; nobody ever reads it.
    DELETE FROM tandem.wake_request WHERE ctid = nullif(place, '')::tid AND lane = NEW.lane;
    IF NEW.queue IS NULL THEN
        PERFORM tandem.wake(ARRAY[NEW.lane]);
    ELSE
        PERFORM tandem.wake_queues(ARRAY[NEW.queue]);
    END IF;
    RETURN NULL;
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

-- tandem.publish_one(...): one message without an id of its own: tandem.publish_messages without the array machinery, whose
-- statements cost more than the rows of one message. Internal. The transaction has its xid; `at` was read after it.
CREATE OR REPLACE FUNCTION tandem.publish_one(
    topic text, topic_id integer, version integer, queues text[], at timestamptz, payload jsonb, key text, header jsonb,
    schema smallint, wake text, OUT id uuid, OUT place bigint
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    xid text := pg_current_xact_id();
    managed text[] := ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed AND q.name = ANY (queues));
    body jsonb; queue text; mark text; wakes boolean; job bigint;
BEGIN
    place := nextval('tandem.message_position');
    id := tandem.uuid7(at);
    INSERT INTO tandem.message ("position", published_at, xid, message_id, topic_id, version, schema_version, key, payload, headers)
    VALUES (place, at, xid::bigint, id, topic_id, version, schema, key, payload, header);
    body := tandem.delivery(topic, place, id, key, schema, at, header, payload);
    FOREACH queue IN ARRAY queues LOOP
        job := nextval('tandem.job_id');
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, context)
        VALUES (job, at, id, 5, queue, queue, key, body, header);
        -- As in tandem.enqueue: the first row of a transaction and queue wakes it at the commit.
        mark := 'tandem.queue_' || tandem.queue_number(queue);
        wakes := wake = 'commit' AND current_setting(mark, true) IS DISTINCT FROM xid;
        IF wakes THEN mark := set_config(mark, xid, true); END IF;
        IF queue = ANY (managed) THEN
            PERFORM tandem.block_job(job, at, queue, 5, key, wakes);
        ELSE
            INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, wakes, queue, partition_key)
            VALUES (nextval('tandem.ready_position'), job, at, 5, 0, 0, false, wakes, queue, key);
        END IF;
    END LOOP;
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

-- tandem.deliver_messages(...): writes the deliveries of messages to queues of groups: one ordinary job for each pair,
-- its kind named like its queue, its partition key the message's key. Internal: publish and fill call it.
CREATE OR REPLACE FUNCTION tandem.deliver_messages(
    topic text, at timestamptz, queues text[], places bigint[], ids uuid[], keys text[], bodies jsonb[], headers jsonb[],
    schemas smallint[], published_ats timestamptz[], wake text DEFAULT 'commit'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made record;
BEGIN
    SELECT array_agg(nextval('tandem.job_id')) AS ids, array_agg(q.queue) AS queues, array_agg(m.payload) AS payloads,
           array_agg(m.key) AS keys, array_agg(m.id) AS events, array_agg(m.header) AS contexts INTO made
    FROM (SELECT u.id, u.key, u.header, tandem.delivery(
              topic, u.place, u.id, u.key, coalesce(u.schema, 1::smallint), coalesce(u.published_at, at), u.header, u.body) AS payload
          FROM unnest(places, ids, keys, bodies, headers, schemas, published_ats)
              AS u(place, id, key, body, header, schema, published_at) OFFSET 0) AS m  -- built once, for every group
    CROSS JOIN unnest(queues) AS q(queue);
    PERFORM tandem.insert_jobs(at, made.ids, made.queues, made.payloads, made.queues, NULL, NULL, made.keys, made.events, NULL, made.contexts);
    IF wake = 'commit' THEN
        PERFORM tandem.wake_batch_at_commit(queues);
    END IF;
    RETURN cardinality(made.ids);
END
$$;

-- tandem.block_job(...): tandem.enqueue where the queue is managed: the job waits in `blocked`. Internal.
-- `wakes` says that the job was to carry the mark that wakes its queue at the commit, which only `ready` can.
CREATE OR REPLACE FUNCTION tandem.block_job(
    id bigint, at timestamptz, queue text, priority integer, partition_key text, wakes boolean
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.block_jobs(ARRAY[id], ARRAY[queue], ARRAY[partition_key], ARRAY[priority]::smallint[], '{0}', '{0}', '{f}',
                              ARRAY[at], ARRAY[NULL::timestamptz], false);
    IF wakes THEN
        PERFORM set_config('tandem.queue_' || tandem.queue_number(queue), '', true);
        PERFORM tandem.wake_queue_at_commit(queue);
    END IF;
END
$$;

-- tandem.admit_jobs(...): claims up to `want` jobs of a managed queue under all its limits, for `worker` under `token`, after
-- it has finished the given ones. One statement for its caller; inside, each one sees what was committed before it, and the
-- locks on the queue's row and those of the limits make them count and admit one after the other: no limit is ever passed.
-- The first row is about the whole: ids finished, seconds until a parked key is due. The others are jobs as in claim_jobs.
CREATE OR REPLACE FUNCTION tandem.admit_jobs(
    queue_name text, want integer, worker uuid, token bigint, lease interval, thorough boolean,
    job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[]
) RETURNS TABLE (
    job_id bigint, pos bigint, queue text, priority smallint, attempt smallint, crashes smallint, suspect boolean,
    partition_key text, ready_at timestamptz, claimed_at timestamptz, kind text, payload text, event_id uuid, policy text,
    context text, created_at timestamptz, cancelled boolean, finished bigint[], due double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE q tandem.queue; st tandem.admission; ids bigint[] := '{}'; sinces timestamptz[] := '{}'; now timestamptz; room record; got record;
    ends tandem.touch[];
BEGIN
    IF cardinality(job_ids) > 0 THEN
        SELECT f.finished, f.ends INTO finished, ends FROM tandem.finish_leases(queue_name, job_ids, tokens, ran_ms, results, ttls) AS f;
    END IF;
    SELECT m.* INTO q FROM tandem.queue AS m WHERE m.name = queue_name AND m.managed AND m.paused_at IS NULL AND want > 0 FOR NO KEY UPDATE;
    IF FOUND THEN
        now := tandem.clock();
        st := tandem.open_admission(q, now, thorough, ends);
        FOR pass IN 1..24 LOOP  -- each one brings a fifth of what is wanted, or all there is
            room := tandem.count_room(q, st);
            st.slot_floor := room.slot_floor;
            EXIT WHEN least(want - cardinality(ids), room.queue_room) <= 0;
            got := tandem.admit_pass(q, st, now, least(want - cardinality(ids), room.queue_room), room.global_room, room.kinds,
                                     room.kind_rooms, worker, token, lease);
            st := got.st; ids := ids || got.ids; sinces := sinces || got.sinces;
            EXIT WHEN NOT got.changed;
        END LOOP;
        due := tandem.close_admission(q, st, now, cardinality(ids) >= want);
    ELSIF cardinality(finished) > 0 THEN
        INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
        SELECT e.queue, e.partition_key, e.ended, e.ran_ms, e.charged_ms FROM unnest(ends) AS e;
        PERFORM tandem.wake_queues(ARRAY[queue_name]);  -- the caller takes no more: let others use what it freed
    END IF;
    RETURN NEXT;
    IF cardinality(ids) > 0 THEN
        RETURN QUERY SELECT l.job_id, l.slot, l.queue, l.priority, l.attempt, l.crashes, l.suspect, l.partition_key, u.since, l.claimed_at,
               j.kind, j.payload::text, j.event_id, j.policy::text, j.context::text, j.created_at,
               EXISTS (SELECT FROM tandem.cancel_intent AS i WHERE i.job_id = l.job_id), NULL::bigint[], NULL::double precision
        FROM unnest(ids, sinces) WITH ORDINALITY AS u(id, since, ord)
        CROSS JOIN LATERAL (SELECT x.* FROM tandem.lease AS x WHERE x.job_id = u.id AND x.token = admit_jobs.token OFFSET 0) AS l  -- one by one
        JOIN tandem.job AS j ON j.id = l.job_id ORDER BY u.ord;
    END IF;
END
$$;

-- tandem.close_admission(queue, state, now, full): writes the state down, wakes others where work is left that the caller had
-- no room for (`full`), and answers the seconds until the next parked key is due. Internal, under the queue's lock.
CREATE OR REPLACE FUNCTION tandem.close_admission(q tandem.queue, st tandem.admission, now timestamptz, is_full boolean)
RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before bigint := st.seq;
BEGIN
    -- The lowest live turn of each shelf: whatever lies below it is dead, and is never walked over again.
    SELECT array_agg(a.shelf), array_agg(a.rank), array_agg(coalesce((
               SELECT t.vtime FROM tandem.turn AS t
               WHERE t.queue = q.name AND t.shelf = a.shelf AND t.rank = a.rank AND t.eligible AND t.vtime >= a.start
               ORDER BY t.vtime LIMIT 1), 'infinity'))
    INTO st.shelves, st.ranks, st.starts FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start);
    st.shelves := coalesce(st.shelves, '{}'); st.ranks := coalesce(st.ranks, '{}'); st.starts := coalesce(st.starts, '{}');
    INSERT INTO tandem.admission (queue, heard, probed_at, clock_ms, mean_ms, slot_floor, due_floor, shelves, ranks, starts, per_turn)
    VALUES (q.name, st.heard, st.probed_at, st.clock_ms, st.mean_ms, st.slot_floor, st.due_floor, st.shelves, st.ranks, st.starts, st.per_turn);
    DELETE FROM tandem.admission AS a WHERE a.queue = q.name AND a.seq = before;
    IF is_full AND EXISTS (SELECT FROM unnest(st.starts) AS s WHERE s < 'infinity') THEN
        PERFORM tandem.wake_queues(ARRAY[q.name]);
    END IF;
    RETURN (SELECT extract(epoch FROM min(t.due_at) - now) FROM tandem.turn AS t WHERE t.queue = q.name AND t.due_at > st.due_floor);
END
$$;
