-- The whole schema after the last migration. Made by `python -m scripts.dump_schema`; never edited by hand.
SET check_function_bodies = false;  -- functions come before the tables that they name

CREATE SCHEMA tandem;

CREATE FUNCTION public.customer_row_is_kept() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation',
        HINT = 'Correct a wrong entry with another one.';
END
$$;

CREATE FUNCTION tandem.add_message_partition(topic_id integer, number bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    parent text := 'message_' || topic_id;
    child text := format('message_%s_%s', topic_id, number);
BEGIN
    IF to_regclass('tandem.' || parent) IS NULL THEN
        EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.message INCLUDING ALL) PARTITION BY RANGE ("position")', parent);
        EXECUTE format('ALTER TABLE tandem.message ATTACH PARTITION tandem.%I FOR VALUES IN (%s)', parent, topic_id);
    END IF;
    IF to_regclass('tandem.' || child) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.message INCLUDING ALL)', child);
    EXECUTE format('ALTER TABLE tandem.%I ATTACH PARTITION tandem.%I FOR VALUES FROM (%s) TO (%s)',
                   parent, child, number * 1000000000, (number + 1) * 1000000000);
    RETURN true;
END
$$;

CREATE FUNCTION tandem.add_partition(number bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.admit_jobs(queue_name text, want integer, worker uuid, token bigint, lease interval, thorough boolean, job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[]) RETURNS TABLE(job_id bigint, pos bigint, queue text, priority smallint, attempt smallint, crashes smallint, suspect boolean, partition_key text, ready_at timestamp with time zone, claimed_at timestamp with time zone, kind text, payload text, event_id uuid, policy text, context text, created_at timestamp with time zone, cancelled boolean, finished bigint[], due double precision)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE SEQUENCE tandem.ready_position
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE tandem.admission (
    queue text NOT NULL COLLATE pg_catalog."C",
    seq bigint DEFAULT nextval('tandem.ready_position'::regclass) NOT NULL,
    heard bigint NOT NULL,
    probed_at timestamp with time zone NOT NULL,
    clock_ms double precision NOT NULL,
    mean_ms double precision NOT NULL,
    slot_floor bigint NOT NULL,
    due_floor timestamp with time zone NOT NULL,
    shelves text[] NOT NULL,
    ranks smallint[] NOT NULL,
    starts double precision[] NOT NULL,
    per_turn double precision NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.admission IS 'What the admission of a queue remembers; the highest seq counts';

COMMENT ON COLUMN tandem.admission.starts IS 'for each shelf and rank the lowest vtime of an eligible turn';

COMMENT ON COLUMN tandem.admission.per_turn IS 'how many jobs a turn brought in the last pass: so many turns are opened for what is wanted';

CREATE TABLE tandem.queue (
    name text NOT NULL COLLATE pg_catalog."C",
    weight real DEFAULT 1 NOT NULL,
    paused_at timestamp with time zone,
    paused_by text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    managed boolean DEFAULT false NOT NULL,
    ordered boolean DEFAULT false NOT NULL,
    dead_head text DEFAULT 'skip'::text NOT NULL,
    max_running integer,
    key_max_running integer,
    key_rate double precision,
    key_burst integer DEFAULT 1 NOT NULL,
    rank_keys boolean DEFAULT false NOT NULL,
    age_after interval,
    age_step smallint,
    age_most smallint,
    CONSTRAINT queue_age_after CHECK ((age_after > '00:00:00'::interval)),
    CONSTRAINT queue_age_most CHECK (((age_most >= 0) AND (age_most <= 9))),
    CONSTRAINT queue_age_step CHECK (((age_step >= 0) AND (age_step <= 9))),
    CONSTRAINT queue_dead_head CHECK ((dead_head = ANY (ARRAY['skip'::text, 'block'::text]))),
    CONSTRAINT queue_key_burst CHECK ((key_burst > 0)),
    CONSTRAINT queue_key_max_running CHECK ((key_max_running >= 0)),
    CONSTRAINT queue_key_rate CHECK ((key_rate > (0)::double precision)),
    CONSTRAINT queue_max_running CHECK ((max_running >= 0)),
    CONSTRAINT queue_weight CHECK ((weight > (0)::double precision))
);

COMMENT ON TABLE tandem.queue IS 'Declared queues with their weights; a queue with paused_at is not claimed from';

COMMENT ON COLUMN tandem.queue.managed IS 'its jobs wait in blocked and are admitted under limits, order and fairness';

COMMENT ON COLUMN tandem.queue.ordered IS 'strict order: one job of a key at a time, first in first out; a retry keeps its place';

COMMENT ON COLUMN tandem.queue.dead_head IS 'ordered queues: whether a key goes on past a dead letter (skip) or stops (block)';

COMMENT ON COLUMN tandem.queue.key_max_running IS 'how many jobs of one key may run at once, unless tandem.key says otherwise';

COMMENT ON COLUMN tandem.queue.key_rate IS 'how many jobs of one key may start per second, key_burst of them at once';

COMMENT ON COLUMN tandem.queue.rank_keys IS 'the priority of a key''s best job decides between keys, before fairness does';

COMMENT ON COLUMN tandem.queue.age_after IS 'set by an operator: each time a job has waited this long, its priority rises by age_step, at most to age_most';

CREATE FUNCTION tandem.admit_pass(q tandem.queue, INOUT st tandem.admission, now timestamp with time zone, want bigint, global_room bigint, kinds text[], kind_rooms bigint[], worker uuid, token bigint, lease interval, OUT ids bigint[], OUT sinces timestamp with time zone[], OUT changed boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE turns record; nothing CONSTANT bigint[] := array_fill(NULL::bigint, '{10}');
BEGIN
    WITH chosen AS MATERIALIZED (  -- of a plain key: how many jobs shall go, and the position from which others may wait
        SELECT c.*, CASE WHEN c.plain THEN count(*) FILTER (WHERE c.taken) OVER turn END AS going,
               coalesce(min(c.pos) FILTER (WHERE NOT c.taken) OVER turn, CASE WHEN count(c.job_id) OVER turn >= c.asked THEN max(c.pos) OVER turn + 1 END) AS next
        FROM tandem.choose_jobs(q, st, now, want, global_room, kinds, kind_rooms) AS c WINDOW turn AS (PARTITION BY c.tid)
    ), locked AS MATERIALIZED (
        SELECT b.ctid AS tid, j.kind, c.start, c.vtime, c.step, c.mean_ms, c.tat, c.every, c.exempt, c.going, c.next, c.live, c.lease_floor, c.tid AS turn
        FROM chosen AS c JOIN tandem.blocked AS b ON b.job_id = ANY (ARRAY[c.job_id]) JOIN tandem.job AS j ON j.id = c.job_id WHERE c.taken FOR UPDATE OF b SKIP LOCKED
    ), gone AS (DELETE FROM tandem.blocked AS b USING locked AS l WHERE b.ctid = l.tid
        RETURNING b.job_id, b.partition_key, b.lane, b.band, b.blocked_at, b.priority, b.attempt, b.crashes, b.suspect, l.*, nextval('tandem.ready_position') AS slot
    ), leased AS (INSERT INTO tandem.lease (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes, suspect, queue, partition_key, slot, kind, exempt, charged_ms)
        SELECT g.job_id, token, worker, now, now + lease, g.priority, g.attempt + 1, g.crashes, g.suspect, q.name, nullif(g.partition_key, ''), g.slot, g.kind, g.exempt, g.mean_ms
        FROM gone AS g ON CONFLICT (job_id) DO NOTHING
    ), sorted AS (
        UPDATE tandem.blocked AS b SET lane = c.kind FROM chosen AS c WHERE c.misplaced AND b.job_id = ANY (ARRAY[c.job_id])
        RETURNING b.partition_key, b.lane, b.band, b.pos, c.mean_ms, c.vtime
    ), leaving AS (
        SELECT partition_key, lane, max(vtime) + count(*) * max(step) AS vtime, max(mean_ms) AS mean, greatest(max(tat), now) + (sum(count(*)) OVER (PARTITION BY partition_key))::float8 * max(every) AS tat,
               coalesce(count(*) = max(going), false) AS plain, count(*) + max(live) AS live, max(turn) AS turn, CASE WHEN max(next) IS NULL THEN nothing ELSE nothing[1:max(band)] || max(next) || nothing[max(band) + 2:] END AS floors,
               CASE WHEN max(live) = 0 AND q.key_max_running IS NOT NULL AND partition_key <> '' THEN min(slot) ELSE max(lease_floor) END AS lease_floor FROM gone GROUP BY 1, 2
    ), renewed AS (
        UPDATE tandem.turn AS t SET seq = nextval('tandem.ready_position'), shelf = l.lane, rank = 0, vtime = l.vtime, due_at = NULL, tat = NULL, floors = l.floors, lease_floor = l.lease_floor,
            eligible = l.floors <> nothing AND coalesce(l.live < q.key_max_running OR l.partition_key = '', true)
        FROM leaving AS l WHERE l.plain AND t.ctid = l.turn RETURNING t.shelf, t.vtime, t.eligible
    ), shelf AS (SELECT x.shelf, x.rank, min(x.start) AS start FROM (SELECT r.shelf, 0::smallint AS rank, r.vtime AS start FROM renewed AS r WHERE r.eligible
            UNION ALL SELECT a.shelf, a.rank, a.start FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start)) AS x GROUP BY x.shelf, x.rank
    ), parts AS (
        SELECT partition_key, lane, vtime, mean, tat, NULL::bigint[] AS firsts FROM leaving WHERE NOT plain UNION ALL SELECT partition_key, lane, max(vtime), max(mean_ms), max(tat), NULL FROM chosen AS c
        WHERE c.job_id IS NULL OR c.misplaced GROUP BY 1, 2 HAVING bool_and(NOT c.taken)
        UNION ALL SELECT partition_key, lane, max(vtime), max(mean_ms), NULL, tandem.lowest_by_band(array_agg(band), array_agg(pos)) FROM sorted GROUP BY 1, 2
    ), behind AS (  -- one element per turn: a lane may take jobs in while others leave it
        SELECT partition_key, lane, max(vtime) AS vtime, max(mean) AS mean, max(tat) AS tat, max(firsts) AS firsts FROM parts GROUP BY 1, 2)
    SELECT array_agg(b.partition_key) AS keys, array_agg(b.lane) AS lanes, array_agg(b.vtime) AS vtimes, array_agg(b.mean) AS means,
           array_agg(b.tat) AS tats, CASE WHEN bool_or(b.firsts IS NOT NULL) THEN array_agg(coalesce(b.firsts, nothing)) END AS firsts, (SELECT count(*) FROM renewed) AS renewed,
           (SELECT array_agg(s.shelf) FROM shelf AS s) AS shelves, (SELECT array_agg(s.rank) FROM shelf AS s) AS ranks, (SELECT array_agg(s.start) FROM shelf AS s) AS starts, (SELECT array_agg(g.job_id ORDER BY g.start, g.job_id) FROM gone AS g) AS ids,
           (SELECT array_agg(g.blocked_at ORDER BY g.start, g.job_id) FROM gone AS g) AS sinces, (SELECT max(g.vtime) FROM gone AS g) AS clock INTO turns FROM behind AS b;
    ids := turns.ids; sinces := turns.sinces; changed := turns.keys IS NOT NULL OR turns.renewed > 0; st.clock_ms := greatest(st.clock_ms, turns.clock);
    st.shelves := coalesce(turns.shelves, '{}'); st.ranks := coalesce(turns.ranks, '{}'); st.starts := coalesce(turns.starts, '{}');
    st.per_turn := coalesce(greatest(1, least(coalesce(cardinality(ids), 0)::float8 / nullif(turns.renewed + coalesce(cardinality(turns.keys), 0), 0), (st.per_turn + 5) / 2)), st.per_turn);
    IF turns.keys IS NOT NULL THEN st := tandem.place_turns(q, st, now, turns.keys, turns.lanes, turns.vtimes, turns.means, turns.tats, turns.firsts, kinds); END IF;
END $$;

CREATE FUNCTION tandem.awaited_jobs(job bigint) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT format('job %s', string_agg(format('%s (%s)', d.after_job, coalesce(
           (SELECT s.status FROM tandem.job_status AS s WHERE s.job_id = d.after_job), 'gone')), ', ' ORDER BY d.after_job)
           FILTER (WHERE d.number <= 3))
       || CASE WHEN count(*) > 3 THEN format(' and %s%s more', least(count(*), 1000) - 3, CASE WHEN count(*) > 1000 THEN ' or' END) ELSE '' END
FROM (SELECT n.after_job, row_number() OVER (ORDER BY n.after_job) AS number
      FROM (SELECT l.after_job FROM tandem.dependency AS l WHERE l.job_id = $1 LIMIT 1001) AS n) AS d
$_$;

CREATE FUNCTION tandem.begin_copy() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.block_job(id bigint, at timestamp with time zone, queue text, priority integer, partition_key text, wakes boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.block_jobs(ids bigint[], queues text[], partition_keys text[], priorities smallint[], attempts smallint[], crashes smallint[], suspects boolean[], sinces timestamp with time zone[], not_befores timestamp with time zone[], again boolean) RETURNS bigint
    LANGUAGE plpgsql STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
BEGIN
    WITH input AS MATERIALIZED (
        SELECT u.id, u.queue, coalesce(u.partition_key, '') AS partition_key, u.priority, u.attempt, u.crashes, u.suspect, u.since,
               u.not_before, coalesce(q.ordered, false) AS ordered
        FROM unnest(ids, queues, partition_keys, priorities, attempts, crashes, suspects, sinces, not_befores)
            AS u(id, queue, partition_key, priority, attempt, crashes, suspect, since, not_before)
        LEFT JOIN tandem.queue AS q ON q.name = u.queue
    ), waits AS (
        INSERT INTO tandem.blocked
            (queue, partition_key, band, pos, job_id, blocked_at, not_before, priority, attempt, crashes, suspect, waiting_for)
        SELECT queue, partition_key, CASE WHEN ordered THEN 0 ELSE priority END,
               CASE WHEN again AND NOT ordered THEN nextval('tandem.job_id') ELSE id END,
               id, since, not_before, priority, attempt, crashes, suspect, CASE WHEN ordered THEN 'key' ELSE 'limit' END
        FROM input
        RETURNING queue, partition_key, band, pos
    )
    INSERT INTO tandem.touch (queue, partition_key, band, first)
    SELECT w.queue, w.partition_key, w.band, min(w.pos) FROM waits AS w GROUP BY w.queue, w.partition_key, w.band;
    RETURN cardinality(ids);
END
$$;

CREATE FUNCTION tandem.check_copy() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.choose_jobs(q tandem.queue, st tandem.admission, now timestamp with time zone, want bigint, global_room bigint, kinds text[], kind_rooms bigint[]) RETURNS TABLE(partition_key text, lane text, job_id bigint, pos bigint, kind text, start double precision, vtime double precision, step double precision, mean_ms double precision, tat timestamp with time zone, every interval, exempt boolean, misplaced boolean, taken boolean, plain boolean, asked bigint, live bigint, lease_floor bigint, floors bigint[], tid tid)
    LANGUAGE sql STABLE
    AS $$
WITH turns AS (
    SELECT t.partition_key, t.lane, t.rank, t.vtime, t.floors, t.mean_ms, t.tat, t.lease_floor, t.tid, count(*) OVER () AS keys, h.together,
           sum(h.likely) OVER (ORDER BY t.rank DESC, t.vtime ROWS UNBOUNDED PRECEDING) - h.likely AS before
    FROM tandem.open_turns(q.name, st, want, global_room, kinds, kind_rooms) AS t
    CROSS JOIN LATERAL (SELECT f.together, least(f.together, st.per_turn) AS likely FROM (SELECT greatest(1, least(5, want, floor(5 / greatest(t.mean_ms, 0.1))))::bigint AS together) AS f) AS h
), open AS MATERIALIZED (  -- what is wanted and a little more; where keys have less, the next pass finds the rest
    SELECT * FROM turns AS t WHERE want <= 8 OR t.before < want + 10
), allowed AS MATERIALIZED (
    SELECT o.partition_key, o.lane, o.rank, o.vtime, o.floors, o.mean_ms, greatest(o.tat, s.tat) AS tat, r.every,
           coalesce(k.exempt, false) AS exempt, o.mean_ms / r.weight AS step, o.together, least(r.most - n.live, w.starts) AS key_room, o.tid, n.live, n.lease_floor,
           kinds IS NULL AND k.queue IS NULL AND q.key_rate IS NULL AND NOT (q.ordered OR q.rank_keys) AND cardinality(array_remove(o.floors, NULL)) = 1 AS plain,
           greatest(0, least(CASE WHEN want <= 8 THEN want ELSE greatest(want / o.keys + 1, o.together) END, r.most - n.live, w.starts))::bigint AS most
    FROM open AS o LEFT JOIN tandem.key AS k ON k.queue = q.name AND k.partition_key = o.partition_key
    CROSS JOIN LATERAL tandem.key_terms(q, k, o.partition_key) AS r
    CROSS JOIN LATERAL tandem.count_leases(q.name, o.partition_key, o.lease_floor, r.most) AS n
    LEFT JOIN LATERAL (  -- a key's rate is one, however many lanes it has
        SELECT max(v.tat) AS tat FROM unnest(CASE WHEN r.every IS NOT NULL THEN kinds || ''::text END) AS l(lane) CROSS JOIN LATERAL (
            SELECT t.tat FROM tandem.turn AS t WHERE t.queue = q.name AND t.partition_key = o.partition_key AND t.lane = l.lane
            ORDER BY t.seq DESC LIMIT 1) AS v) AS s ON r.every IS NOT NULL AND kinds IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT floor(extract(epoch FROM now + r.burst * r.every - greatest(o.tat, s.tat, now)) / extract(epoch FROM r.every)) AS starts) AS w
), offered AS (
    SELECT a.partition_key, a.lane, a.rank, a.vtime, a.mean_ms, a.tat, a.every, a.exempt, a.step, a.key_room, a.most AS asked, a.live, a.lease_floor, a.floors, a.tid, a.plain, b.job_id, b.pos, b.head, b.nth AS place, j.kind,
           a.vtime + (coalesce(b.nth, 1) - 1) / a.together * a.together * a.step AS start, NOT q.ordered AND a.lane = '' AND j.kind = ANY (kinds) AS misplaced
    FROM allowed AS a LEFT JOIN LATERAL tandem.next_in_line(q.name, a.partition_key, a.lane, a.floors, a.most) AS b ON true
    LEFT JOIN tandem.job AS j ON j.id = CASE WHEN kinds IS NOT NULL THEN b.job_id END
), ranked AS (
    SELECT o.partition_key, o.lane, o.job_id, o.pos, o.kind, o.start + coalesce(o.place, 0) * 1e-6 AS start, o.vtime, o.step, o.mean_ms, o.tat, o.every, o.exempt, o.misplaced, o.plain, o.asked, o.live, o.lease_floor, o.floors, o.tid,
           o.key_room, count(o.job_id) FILTER (WHERE o.misplaced IS NOT TRUE) OVER (PARTITION BY o.partition_key
               ORDER BY o.rank DESC, o.start, o.place, o.pos ROWS UNBOUNDED PRECEDING) AS of_key,  -- its lanes share the key's limit
           x.room, row_number() OVER (PARTITION BY o.kind ORDER BY o.rank DESC, o.start, o.head, o.place, o.pos) AS of_kind,
           count(o.job_id) OVER turn AS nth, count(o.job_id) FILTER (WHERE NOT o.exempt) OVER turn AS counts
    FROM offered AS o LEFT JOIN unnest(kinds, kind_rooms) AS x(kind, room) ON x.kind = o.kind
    WINDOW turn AS (ORDER BY o.rank DESC, o.start, o.head, o.place, o.pos, o.partition_key ROWS UNBOUNDED PRECEDING)
)
SELECT r.partition_key, r.lane, r.job_id, r.pos, r.kind, r.start, r.vtime, r.step, r.mean_ms, r.tat, r.every, r.exempt,
       coalesce(r.misplaced, false),
       r.job_id IS NOT NULL AND r.misplaced IS NOT TRUE AND r.nth <= want AND (r.exempt OR coalesce(r.counts <= global_room, true))
       AND coalesce(r.of_kind <= r.room, true) AND coalesce(r.of_key <= r.key_room, true), r.plain, r.asked, r.live, r.lease_floor, r.floors, r.tid
FROM ranked AS r
$$;

CREATE FUNCTION tandem.claim_message_ids(topic_id integer, until timestamp with time zone, at timestamp with time zone, payloads jsonb[], keys text[], ids uuid[], places bigint[], message_ids uuid[], dedup_keys text[], OUT owners uuid[], OUT places_of bigint[], OUT same boolean[]) RETURNS record
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
WITH input AS MATERIALIZED (
    SELECT u.ord, u.id, u.place, coalesce(u.dedup_key, u.given::text) AS name,
           sha256(convert_to(coalesce(u.key, '') || E'\n' || u.body::text, 'UTF8')) AS hash
    FROM unnest(ids, places, payloads, keys, message_ids, dedup_keys) WITH ORDINALITY
        AS u(id, place, body, key, given, dedup_key, ord) WHERE u.ord <= cardinality(places)
), firsts AS (  -- one row per name, in its order: a batch that has a name twice, and batches in any order
    SELECT DISTINCT ON (name) name, id, place, hash FROM input WHERE name IS NOT NULL ORDER BY name, ord
), held AS (
    INSERT INTO tandem.message_dedup AS k (topic_id, id, message_id, "position", body_hash, expires_at)
    SELECT topic_id, name, id, place, hash, until FROM firsts
    ON CONFLICT (topic_id, id) DO UPDATE SET (message_id, "position", body_hash, expires_at) = (
        SELECT CASE WHEN f.free THEN excluded.message_id ELSE k.message_id END,
               CASE WHEN f.free THEN excluded."position" ELSE k."position" END,
               CASE WHEN f.free THEN excluded.body_hash ELSE k.body_hash END,
               CASE WHEN f.free THEN excluded.expires_at ELSE k.expires_at END
        FROM (SELECT k.expires_at <= at AS free) AS f)
    RETURNING k.id, k.message_id, k."position", k.body_hash
)
SELECT array_agg(coalesce(h.message_id, i.id) ORDER BY i.ord), array_agg(coalesce(h."position", i.place) ORDER BY i.ord),
       array_agg(coalesce(h.body_hash = i.hash, true) ORDER BY i.ord)
FROM input AS i LEFT JOIN held AS h ON h.id = i.name
$$;

CREATE FUNCTION tandem.clear_limit(target text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    place text := substr(target, strpos(target || ':', ':') + 1);
    key text := substr(place, strpos(place || '/', '/') + 1);
    found_one boolean;
BEGIN
    IF target LIKE 'queue:%' THEN
        UPDATE tandem.queue AS q SET max_running = NULL WHERE q.name = place AND q.max_running IS NOT NULL;
        found_one := FOUND;
        PERFORM tandem.recheck_keys(place, '') WHERE found_one;
    ELSIF target LIKE 'key:%' THEN
        DELETE FROM tandem.key AS k WHERE k.queue = split_part(place, '/', 1) AND k.partition_key = key;
        found_one := FOUND;
        PERFORM tandem.recheck_keys(split_part(place, '/', 1), key) WHERE found_one;
    ELSE
        DELETE FROM tandem.concurrency_limit AS c WHERE c.name = target;
        found_one := FOUND;
        PERFORM tandem.recheck_keys(q.name, '') FROM tandem.queue AS q WHERE q.managed AND found_one;
    END IF;
    RETURN found_one;
END
$$;

CREATE FUNCTION tandem.clock() RETURNS timestamp with time zone
    LANGUAGE sql PARALLEL SAFE
    RETURN (clock_timestamp() + COALESCE((NULLIF(current_setting('tandem.clock_offset'::text, true), ''::text))::interval, '00:00:00'::interval));

CREATE FUNCTION tandem.close_admission(q tandem.queue, st tandem.admission, now timestamp with time zone, is_full boolean) RETURNS double precision
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.count_leases(queue_name text, key text, floor bigint, most integer) RETURNS TABLE(live bigint, lease_floor bigint)
    LANGUAGE sql STABLE
    AS $$
SELECT count(*), coalesce(min(l.slot), floor) FROM tandem.lease AS l
WHERE most IS NOT NULL AND l.queue = queue_name AND l.partition_key = key AND l.kind IS NOT NULL AND l.slot >= floor
$$;

CREATE FUNCTION tandem.count_room(q tandem.queue, st tandem.admission, OUT queue_room bigint, OUT global_room bigint, OUT kinds text[], OUT kind_rooms bigint[], OUT slot_floor bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    global_limit integer;
    limits integer[];
BEGIN
    slot_floor := st.slot_floor;
    PERFORM FROM tandem.concurrency_limit AS c ORDER BY c.name FOR NO KEY UPDATE;
    SELECT min(c.max_running) FILTER (WHERE c.name = 'global'), array_agg(substr(c.name, 6) ORDER BY c.name) FILTER (WHERE c.name <> 'global'),
           array_agg(c.max_running ORDER BY c.name) FILTER (WHERE c.name <> 'global')
    INTO global_limit, kinds, limits FROM tandem.concurrency_limit AS c;
    IF q.max_running IS NULL AND global_limit IS NULL AND kinds IS NULL THEN
        RETURN;
    END IF;
    WITH place AS MATERIALIZED (
        SELECT m.name, CASE WHEN m.name = q.name THEN st.slot_floor ELSE coalesce((
                   SELECT a.slot_floor FROM tandem.admission AS a WHERE a.queue = m.name ORDER BY a.seq DESC LIMIT 1), 0) END AS floor
        FROM tandem.queue AS m WHERE m.managed AND (m.name = q.name OR global_limit IS NOT NULL OR kinds IS NOT NULL)
    ), live AS MATERIALIZED (
        SELECT p.name, l.kind, l.exempt, l.slot FROM place AS p CROSS JOIN LATERAL (
            SELECT s.kind, s.exempt, s.slot FROM tandem.lease AS s WHERE s.queue = p.name AND s.exempt IS NOT NULL AND s.slot >= p.floor OFFSET 0) AS l
    )
    SELECT q.max_running - count(*) FILTER (WHERE l.name = q.name), global_limit - count(*) FILTER (WHERE NOT l.exempt),
           coalesce(min(l.slot) FILTER (WHERE l.name = q.name), (SELECT p.last_value FROM tandem.ready_position AS p)),
           (SELECT array_agg(u.most - (SELECT count(*) FROM live AS x WHERE x.kind = u.kind) ORDER BY u.ord)
            FROM unnest(kinds, limits) WITH ORDINALITY AS u(kind, most, ord))
    INTO queue_room, global_room, slot_floor, kind_rooms FROM live AS l;
END
$$;

CREATE FUNCTION tandem.covers(floors bigint[], firsts bigint[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (NOT (EXISTS (SELECT FROM UNNEST(covers.floors, covers.firsts) u(floor, first) WHERE ((u.first IS NOT NULL) AND COALESCE((u.floor > u.first), true)))));

CREATE FUNCTION tandem.create_topic(name text, retention interval DEFAULT '7 days'::interval, dedup_window interval DEFAULT '1 day'::interval, drop_unread boolean DEFAULT false, encrypted boolean DEFAULT false, created_by text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    made integer;
    current bigint;
BEGIN
    INSERT INTO tandem.topic (name, retention, dedup_window, drop_unread, encrypted, created_at, created_by)
    VALUES (create_topic.name, create_topic.retention, create_topic.dedup_window, create_topic.drop_unread,
            create_topic.encrypted, tandem.clock(), create_topic.created_by)
    ON CONFLICT DO NOTHING RETURNING id INTO made;
    IF made IS NULL THEN
        RETURN (SELECT t.id FROM tandem.topic AS t WHERE t.name = create_topic.name);
    END IF;
    current := (SELECT s.last_value / 1000000000 FROM tandem.message_position AS s);
    PERFORM tandem.add_message_partition(made, n) FROM generate_series(current, current + 2) AS n;
    RETURN made;
END
$$;

CREATE FUNCTION tandem.create_topic_group(topic text, name text, from_position bigint DEFAULT NULL::bigint, max_attempts integer DEFAULT 5, retry_delay_ms integer DEFAULT 2000, backoff text DEFAULT 'exponential'::text, ordered boolean DEFAULT false, created_by text DEFAULT NULL::text, dead_head text DEFAULT 'skip'::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    target tandem.topic;
    made integer;
    queue text := tandem.topic_queue(topic, name);
BEGIN
    SELECT t.* INTO target FROM tandem.topic AS t WHERE t.name = create_topic_group.topic FOR NO KEY UPDATE;
    IF target.id IS NULL THEN
        RAISE EXCEPTION 'there is no topic "%"', topic USING ERRCODE = 'undefined_object', HINT = 'Make it with: tandem topics create.';
    END IF;
    made := (SELECT g.id FROM tandem.topic_group AS g WHERE g.topic_id = target.id AND g.name = create_topic_group.name);
    IF made IS NOT NULL THEN
        RETURN made;
    END IF;
    UPDATE tandem.topic SET version = version + 1 WHERE id = target.id;
    INSERT INTO tandem.queue (name, created_at) VALUES (queue, tandem.clock()) ON CONFLICT DO NOTHING;
    INSERT INTO tandem.topic_group (topic_id, name, queue, version, start_position, max_attempts, retry_delay_ms, backoff, ordered,
                                    created_at, created_by)
    SELECT target.id, create_topic_group.name, queue, target.version + 1, coalesce(from_position, s.last_value + 1),
           create_topic_group.max_attempts, create_topic_group.retry_delay_ms, create_topic_group.backoff,
           create_topic_group.ordered, tandem.clock(), create_topic_group.created_by
    FROM tandem.message_position AS s RETURNING id INTO made;
    INSERT INTO tandem.topic_fill (group_id, reason, from_position, to_position, cursor, snapshot, history_done, requested_at, requested_by)
    SELECT made, 'start', coalesce(from_position, s.last_value + 1), s.last_value, coalesce(from_position, s.last_value + 1) - 1,
           pg_current_snapshot(), from_position IS NULL, tandem.clock(), create_topic_group.created_by
    FROM tandem.message_position AS s;
    IF ordered THEN
        PERFORM tandem.order_topic_group(topic, name, true, dead_head);
    END IF;
    RETURN made;
END
$$;

CREATE FUNCTION tandem.deliver_again(topic_id integer, queues text[], positions bigint[]) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
SELECT coalesce(sum(tandem.deliver_messages(u.topic, u.at, queues, u.places, u.ids, u.keys, u.bodies, u.headers, u.schemas, u.ats)), 0)
FROM (SELECT t.name AS topic, tandem.clock() AS at, array_agg(m."position" ORDER BY m."position") AS places,
             array_agg(m.message_id ORDER BY m."position") AS ids, array_agg(m.key ORDER BY m."position") AS keys,
             array_agg(m.payload ORDER BY m."position") AS bodies, array_agg(m.headers ORDER BY m."position") AS headers,
             array_agg(m.schema_version ORDER BY m."position") AS schemas, array_agg(m.published_at ORDER BY m."position") AS ats
      FROM tandem.message AS m JOIN tandem.topic AS t ON t.id = m.topic_id
      WHERE m.topic_id = deliver_again.topic_id AND m."position" = ANY (positions) GROUP BY t.name) AS u
$$;

CREATE FUNCTION tandem.deliver_messages(topic text, at timestamp with time zone, queues text[], places bigint[], ids uuid[], keys text[], bodies jsonb[], headers jsonb[], schemas smallint[], published_ats timestamp with time zone[], wake text DEFAULT 'commit'::text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.delivery(topic text, "position" bigint, message_id uuid, key text, schema_version smallint, published_at timestamp with time zone, headers jsonb, payload jsonb) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN ((pg_column_size(payload) > 2048) AND (headers IS NULL)) THEN jsonb_build_object('topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version, 'published_at', published_at) WHEN (pg_column_size(payload) > 2048) THEN jsonb_build_object('topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version, 'published_at', published_at, 'headers', headers) WHEN (headers IS NULL) THEN jsonb_build_object('topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version, 'published_at', published_at, 'payload', payload) ELSE jsonb_build_object('topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version, 'published_at', published_at, 'headers', headers, 'payload', payload) END;

CREATE FUNCTION tandem.drop_message_partition(topic_id integer, number bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    target tandem.topic;
    first bigint := number * 1000000000;
    past bigint := (number + 1) * 1000000000;
    child text := format('message_%s_%s', topic_id, number);
    unread record;
BEGIN
    SELECT t.* INTO target FROM tandem.topic AS t WHERE t.id = drop_message_partition.topic_id;
    IF (SELECT s.last_value < past FROM tandem.message_position AS s) OR EXISTS (
        SELECT FROM (SELECT m.published_at FROM tandem.message AS m WHERE m.topic_id = target.id AND m."position" >= first
                     AND m."position" < past ORDER BY m."position" DESC LIMIT 1) AS newest
        WHERE newest.published_at > tandem.clock() - target.retention) THEN
        RETURN 'young';
    END IF;
    EXECUTE format('LOCK TABLE tandem.%I IN ACCESS EXCLUSIVE MODE', child);
    FOR unread IN SELECT u.group_id, u.messages FROM tandem.unread_messages(target.id, first, past) AS u WHERE u.messages > 0 LOOP
        IF NOT target.drop_unread THEN
            RETURN 'unread';
        END IF;
        INSERT INTO tandem.topic_loss (topic_id, group_id, at, messages)
        VALUES (target.id, unread.group_id, tandem.clock(), unread.messages);
    END LOOP;
    EXECUTE format('ALTER TABLE tandem.%I DETACH PARTITION tandem.%I', 'message_' || target.id, child);
    EXECUTE format('DROP TABLE tandem.%I', child);
    RETURN 'dropped';
END
$$;

CREATE FUNCTION tandem.drop_partition(number bigint, survivors bigint[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
                     UNION ALL SELECT w.job_id FROM tandem.dependent AS w WHERE w.job_id >= first AND w.job_id < past
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
$_$;

CREATE FUNCTION tandem.enqueue(kind text, payload jsonb DEFAULT '{}'::jsonb, queue text DEFAULT 'default'::text, priority integer DEFAULT 5, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, partition_key text DEFAULT NULL::text, event_id uuid DEFAULT NULL::uuid, unique_key text DEFAULT NULL::text, unique_scope text DEFAULT 'forever'::text, unique_period interval DEFAULT NULL::interval, policy jsonb DEFAULT NULL::jsonb, context jsonb DEFAULT NULL::jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.enqueue_copied(wake text DEFAULT 'commit'::text) RETURNS bigint[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.enqueue_jobs(kinds text[], payloads jsonb[], queues text[] DEFAULT NULL::text[], priorities smallint[] DEFAULT NULL::smallint[], run_ats timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], partition_keys text[] DEFAULT NULL::text[], event_ids uuid[] DEFAULT NULL::uuid[], policies jsonb[] DEFAULT NULL::jsonb[], contexts jsonb[] DEFAULT NULL::jsonb[], unique_keys text[] DEFAULT NULL::text[], unique_scopes text[] DEFAULT NULL::text[], unique_periods interval[] DEFAULT NULL::interval[], wake text DEFAULT 'commit'::text) RETURNS TABLE(ord bigint, job_id bigint, created boolean, same_body boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.enqueue_unique(at timestamp with time zone, kinds text[], payloads jsonb[], queues text[], priorities smallint[], run_ats timestamp with time zone[], partition_keys text[], event_ids uuid[], policies jsonb[], contexts jsonb[], unique_keys text[], unique_scopes text[], unique_periods interval[]) RETURNS TABLE(ord bigint, job_id bigint, created boolean, same_body boolean)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.eta(job bigint) RETURNS TABLE(basis text, "position" bigint, position_exact boolean, start_at timestamp with time zone, start_low timestamp with time zone, start_high timestamp with time zone, finish_at timestamp with time zone, finish_low timestamp with time zone, finish_high timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
WITH place AS MATERIALIZED (
    SELECT s.queue, s.kind, s.status, s.waiting_for, s.partition_key, s.started_at, c.at, CASE WHEN s.waiting_for = 'time' THEN greatest(c.at, s.next_attempt_at) ELSE c.at END AS from_at
    FROM tandem.job_status AS s, (SELECT tandem.clock() AS at) AS c
    WHERE s.job_id = $1 AND s.status IN ('PENDING', 'RUNNING')
), facts AS MATERIALIZED (
    SELECT p.queue, p.kind, p.partition_key, p.status, p.waiting_for, p.started_at, p.at, p.from_at, a.ahead, a.exact, q.paused_at,
           t.mean, t.deviation, t.tries, coalesce(o.mean, t.mean) AS own, coalesce(o.deviation, t.deviation) AS own_deviation,
           tandem.queue_servers(p.queue, t.busy) AS slots, r.jobs AS running, coalesce(k.exempt, false) AS exempt
    FROM place AS p
    LEFT JOIN LATERAL (SELECT j.ahead, j.exact FROM tandem.jobs_ahead($1) AS j) AS a ON true
    LEFT JOIN tandem.queue AS q ON q.name = p.queue
    LEFT JOIN tandem.key AS k ON k.queue = p.queue AND k.partition_key = p.partition_key
    LEFT JOIN LATERAL (SELECT s.mean, s.deviation, s.tries, s.busy FROM tandem.service_stats(p.queue) AS s WHERE s.kind IS NULL) AS t ON true
    LEFT JOIN LATERAL (SELECT s.mean, s.deviation FROM tandem.service_stats(p.queue) AS s WHERE s.kind = p.kind) AS o ON true
    CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM tandem.lease AS l WHERE l.queue = p.queue AND (
        p.waiting_for NOT IN ('limit', 'key') OR coalesce(l.partition_key, '') = coalesce(p.partition_key, ''))) AS r
), judged AS MATERIALIZED (
    SELECT f.queue, f.kind, f.partition_key, f.slots, f.exempt, f.running, f.mean, f.deviation, f.tries, f.ahead, f.exact, f.at, f.from_at,
           f.started_at, f.own, f.own_deviation, f.waiting_for IN ('limit', 'key') AND EXISTS (SELECT FROM tandem.concurrency_limit) AS shared,
           CASE WHEN f.status = 'RUNNING' THEN 'running' WHEN f.waiting_for = 'job' THEN 'waits-for-jobs'
                WHEN f.paused_at IS NOT NULL THEN 'queue-paused' WHEN f.slots IS NULL THEN 'no-worker'
                WHEN f.mean IS NULL THEN 'no-samples' ELSE 'rates' END AS basis
    FROM facts AS f)
SELECT CASE WHEN j.basis = 'rates' AND b.servers = 0 THEN 'limit-is-zero' ELSE j.basis END, j.ahead + 1, j.exact, s.at + s.wait * i.s, s.at + s.low * i.s, s.at + s.high * i.s,
       CASE WHEN e.expected IS NOT NULL THEN greatest(j.at, s.at + e.expected * i.s) END,
       CASE WHEN e.low IS NOT NULL THEN greatest(j.at, s.at + e.low * i.s) END, CASE WHEN e.high IS NOT NULL THEN greatest(j.at, s.at + e.high * i.s) END
FROM judged AS j CROSS JOIN (SELECT interval '1 s' AS s) AS i
LEFT JOIN LATERAL (
    SELECT w.expected, h.low, h.high, w.servers FROM tandem.global_turns(j.queue, j.exempt, j.slots) AS g
    CROSS JOIN LATERAL (SELECT tandem.eta_servers(j.queue, j.partition_key, j.kind, g.servers) AS servers) AS v, LATERAL (
        SELECT b.expected, b.low, b.high, t.servers
        FROM tandem.eta_terms($1, greatest(0, coalesce(j.ahead, 0) + 1 - greatest(0, v.servers - j.running)),
            coalesce(g.others * v.servers / nullif(g.servers * j.mean, 0), 0), v.servers, j.mean, j.deviation, j.tries) AS t
        LEFT JOIN LATERAL tandem.eta_band(t.starts, nullif(t.servers, 0), nullif(t.mean, 0), t.deviation, t.tries) AS b ON true
        ORDER BY b.expected DESC NULLS FIRST LIMIT 1) AS w
    CROSS JOIN LATERAL tandem.shared_band(w.expected, w.low, w.high, j.shared) AS h
    ORDER BY w.expected NULLS LAST LIMIT 1) AS b ON j.basis = 'rates'
LEFT JOIN LATERAL (SELECT j.started_at AS at, 0 AS wait, 0 AS low, 0 AS high WHERE j.basis = 'running'
                   UNION ALL SELECT j.from_at, b.expected, b.low, b.high WHERE j.basis = 'rates' AND b.expected IS NOT NULL) AS s ON true
LEFT JOIN LATERAL tandem.finish_band(s.wait, s.low, s.high, j.own, j.own_deviation) AS e ON e.expected IS NOT NULL
$_$;

CREATE FUNCTION tandem.eta_band(starts double precision, servers double precision, mean double precision, deviation double precision, tries bigint) RETURNS TABLE(expected double precision, low double precision, high double precision)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
SELECT b.wait, CASE WHEN b.wait > 0 THEN exp(ln(b.wait) - b.s2 / 2 - 1.2816 * sqrt(b.s2)) ELSE 0 END,
       CASE WHEN b.wait > 0 THEN exp(ln(b.wait) - b.s2 / 2 + 1.2816 * sqrt(b.s2)) ELSE 0 END
FROM (SELECT a.wait, CASE WHEN a.wait > 0 THEN ln(1 + a.variance / a.wait ^ 2) ELSE 0 END AS s2
      FROM (SELECT w.wait, (w.wait * deviation / mean) ^ 2 / greatest(tries, 1) + (mean / servers) ^ 2 * greatest(
                       starts * least(1, w.cv2), starts * w.cv2 + servers * (1 / 6.0 - w.cv2 ^ 2 / 2 - w.cv2 ^ 3 / 3)) AS variance
            FROM (SELECT greatest(0, starts - greatest(0, 1 - (deviation / mean) ^ 2) / 2) * mean / servers AS wait,
                         (deviation / mean) ^ 2 AS cv2) AS w) AS a) AS b
$$;

CREATE FUNCTION tandem.eta_servers(queue text, partition_key text, kind text, servers double precision) RETURNS double precision
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
WITH RECURSIVE waiting AS (
    (SELECT b.partition_key, 1 AS number FROM tandem.blocked AS b WHERE b.queue = $1 ORDER BY b.partition_key LIMIT 1)
    UNION ALL
    SELECT (SELECT b.partition_key FROM tandem.blocked AS b WHERE b.queue = $1 AND b.partition_key > w.partition_key
            ORDER BY b.partition_key LIMIT 1), w.number + 1
    FROM waiting AS w WHERE w.partition_key IS NOT NULL AND w.number <= 100
)
SELECT CASE WHEN q.managed THEN least($4 / greatest(1, r.keys), CASE WHEN q.ordered THEN 1 END,
                                      CASE WHEN $2 <> '' THEN coalesce(k.max_running, q.key_max_running) END,
                                      CASE WHEN q.ordered THEN tandem.kind_servers($3) END)
            ELSE $4 END
FROM (SELECT 1) AS one
LEFT JOIN tandem.queue AS q ON q.name = $1
LEFT JOIN tandem.key AS k ON k.queue = $1 AND k.partition_key = $2
LEFT JOIN LATERAL (
    SELECT count(*) AS keys FROM waiting AS w LEFT JOIN tandem.key AS o ON o.queue = $1 AND o.partition_key = w.partition_key
    WHERE w.partition_key IS NOT NULL AND (o.exempt IS TRUE) = (k.exempt IS TRUE)) AS r ON q.managed
$_$;

CREATE FUNCTION tandem.eta_terms(job bigint, starts double precision, first double precision, servers double precision, mean double precision, deviation double precision, tries bigint) RETURNS TABLE(starts double precision, servers double precision, mean double precision, deviation double precision, tries bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
WITH limited AS MATERIALIZED (
    SELECT q.name FROM tandem.blocked AS b JOIN tandem.queue AS q ON q.name = b.queue AND q.managed AND NOT q.ordered
    WHERE b.job_id = $1 AND EXISTS (SELECT FROM tandem.concurrency_limit AS c WHERE c.name <> 'global')
), kinds AS MATERIALIZED (
    SELECT k.kind, k.jobs, k.running, k.mean, k.deviation, k.most, k.room, k.jobs * k.mean AS work
    FROM limited CROSS JOIN LATERAL tandem.kinds_ahead($1) AS k
), once AS MATERIALIZED (
    SELECT k.kind, k.jobs, k.running, k.mean, k.deviation, k.most, k.work,
           coalesce(k.work * $4 > k.most * sum(k.work) OVER (), false) AS held FROM kinds AS k
), twice AS MATERIALIZED (
    SELECT o.kind, o.jobs, o.running, o.mean, o.deviation, o.most, o.held OR coalesce(
               o.work * ($4 - coalesce(sum(o.most) FILTER (WHERE o.held) OVER (), 0))
               > o.most * sum(o.work) FILTER (WHERE NOT o.held) OVER (), false) AS held FROM once AS o
), free AS MATERIALIZED (
    SELECT greatest(0, $4 - coalesce(sum(t.most) FILTER (WHERE t.held), 0)) AS servers,
           coalesce(sum(t.jobs) FILTER (WHERE NOT t.held), 0) AS jobs, coalesce(sum(t.running) FILTER (WHERE NOT t.held), 0) AS running,
           sum(t.jobs * t.mean) FILTER (WHERE NOT t.held) AS work,
           sum(t.jobs * (t.deviation ^ 2 + t.mean ^ 2)) FILTER (WHERE NOT t.held) AS squares
    FROM twice AS t
)
SELECT $2 + $3, $4, $5, $6, $7 WHERE NOT EXISTS (SELECT FROM limited)
UNION ALL
SELECT greatest(0, f.jobs + 1 - greatest(0, f.servers - f.running)) + $3, f.servers,
       CASE WHEN f.jobs > 0 THEN f.work / f.jobs ELSE $5 END,
       CASE WHEN f.jobs > 0 THEN sqrt(greatest(0, f.squares / f.jobs - (f.work / f.jobs) ^ 2)) ELSE $6 END, $7
FROM free AS f WHERE EXISTS (SELECT FROM limited)
UNION ALL
SELECT greatest(0, k.jobs + 1 - greatest(0, k.room)), least($4, k.most), k.mean, k.deviation, $7
FROM kinds AS k JOIN tandem.job AS j ON j.id = $1 AND j.kind = k.kind WHERE k.most IS NOT NULL
$_$;

CREATE FUNCTION tandem.explain(job bigint) RETURNS TABLE(reason text, explanation text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT r.reason, r.explanation, r.since, r.until
FROM tandem.job_circumstances($1) AS c
CROSS JOIN LATERAL (SELECT c.place IN ('ready', 'scheduled', 'blocked', 'dependent') AS waits, c.place = 'lease' AS runs,
                           c.until <= c.at AS over, coalesce('worker ' || c.worker, 'a worker') AS who,
                           (SELECT j.policy ->> 'start_by' FROM tandem.job AS j WHERE j.id = $1)::timestamptz AS start_by) AS n
CROSS JOIN LATERAL (VALUES
    (1, c.place IS NULL AND c.kind IS NULL, 'unknown-job',
     'there is no such job: never enqueued, rolled back, purged, or dropped by retention', NULL, NULL),
    (2, c.place IS NULL AND c.kind IS NOT NULL, 'lost',
     'it stands in no place, which is a bug: see sql/inspect/membership.sql', c.created_at, NULL),
    (3, c.place = 'succeeded', 'succeeded', format('%s ended it at try %s', n.who, c.attempt), c.since, NULL),
    (4, c.place = 'dead', 'dead', format('a dead letter after try %s: %s', c.attempt, c.detail), c.since, NULL),
    (5, c.place = 'cancelled', 'cancelled', concat_ws(': ', 'it was cancelled', c.detail), c.since, NULL),
    (6, (n.waits OR n.runs) AND c.cancel_at IS NOT NULL, 'cancel-asked',
     format('%s asked for its cancel%s; %s', coalesce(c.cancel_by, 'somebody'), ' (' || c.cancel_why || ')',
            CASE WHEN n.runs THEN 'its worker ends it at the next heartbeat' ELSE 'the next claim or sweep ends it' END),
     c.cancel_at, NULL),
    (7, n.runs AND n.over, 'lease-overdue', format('%s holds it and has not extended its lease; a sweep%s takes it back',
     n.who, CASE WHEN c.hooked THEN ' that knows the kind ' || c.kind END), c.until, NULL),
    (8, n.runs AND NOT n.over AND c.suspect AND NOT c.alone, 'suspect-waits',
     format('its worker died in an earlier try: in %s it waits until it can run alone', n.who), c.since, c.until),
    (9, n.runs AND NOT n.over AND NOT (c.suspect AND NOT c.alone), 'running',
     format('%s runs its try %s%s, or is about to', n.who, c.attempt, CASE WHEN c.alone THEN ' alone' END), c.since, c.until),
    (10, c.place = 'blocked', 'blocked-' || c.detail,
     concat_ws(': ', format('it waits for its %s%s', c.detail, ' (partition key ' || nullif(c.partition_key, '') || ')'), tandem.why_blocked($1)),
     c.since, NULL),
    (10, c.place = 'dependent', 'blocked-job', 'it waits for ' || c.detail, c.since, NULL),
    (11, c.place = 'scheduled' AND NOT n.over, 'not-due',
     CASE WHEN c.attempt > 0 AND c.failure <> '' THEN format('the last try failed (%s); the next one', c.failure) ELSE 'it' END
     || ' is not due yet', coalesce(c.failed_at, c.created_at), c.until),
    (12, c.place = 'scheduled' AND n.over, 'due', 'it is due: a sweep makes it ready', c.until, NULL),
    (13, c.place IN ('scheduled', 'lease') AND n.over AND NOT c.swept, 'no-sweeper', 'nobody sweeps: start a worker', NULL, NULL),
    (14, n.waits AND c.paused_at IS NOT NULL, 'queue-paused',
     format('queue %s is paused by %s', c.queue, coalesce(c.paused_by, 'somebody')), c.paused_at, NULL),
    (15, n.waits AND NOT c.declared, 'kind-unknown', format('no worker has ever declared the kind %s', c.kind), c.created_at, NULL),
    (16, n.waits AND c.slots IS NULL, 'no-worker', format('no live worker serves queue %s', c.queue), c.seen_at, NULL),
    (17, n.waits AND c.suspect, 'suspect', 'its worker died in an earlier try: it runs alone next', c.failed_at, NULL),
    (18, c.place = 'ready', 'waiting', format('%s jobs of queue %s come first; its workers hold %s jobs and have %s slots',
     c.ahead || CASE WHEN c.ahead >= 1000 THEN ' or more' ELSE '' END, c.queue, c.held, coalesce(c.slots, 0)), c.since, NULL),
    (19, n.waits AND c.attempt = 0 AND n.start_by IS NOT NULL, 'start-deadline',
     'it ends as a dead letter (expired) unless its first try has started by then', NULL, n.start_by)
) AS r(rank, holds, reason, explanation, since, until)
WHERE r.holds ORDER BY r.rank
$_$;

CREATE FUNCTION tandem.fill_gap(fill bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    f record;
    found record;
BEGIN
    UPDATE tandem.topic_fill AS x SET boundary = coalesce(x.boundary, pg_current_xact_id()) WHERE x.id = fill;
    SELECT x.snapshot, x.boundary, g.queue, g.topic_id, g.version INTO f
    FROM tandem.topic_fill AS x JOIN tandem.topic_group AS g ON g.id = x.group_id WHERE x.id = fill;
    -- One statement, so one snapshot: what it sees is what the fill will have seen.
    SELECT coalesce(array_agg(m."position" ORDER BY m."position") FILTER (WHERE m."position" IS NOT NULL), '{}') AS positions,
           pg_current_snapshot() AS snapshot INTO found
    FROM tandem.message AS m
    WHERE m.topic_id = f.topic_id AND m.version < f.version AND m.xid >= pg_snapshot_xmin(f.snapshot)::text::bigint
      AND m.xid < f.boundary::text::bigint AND NOT pg_visible_in_snapshot(m.xid::text::xid8, f.snapshot);
    PERFORM tandem.deliver_again(f.topic_id, ARRAY[f.queue], found.positions);
    UPDATE tandem.topic_fill AS x
    SET snapshot = found.snapshot, delivered = x.delivered + cardinality(found.positions),
        finished_at = CASE WHEN pg_snapshot_xmin(found.snapshot) >= f.boundary THEN tandem.clock() END
    WHERE x.id = fill;
    RETURN cardinality(found.positions);
END
$$;

CREATE FUNCTION tandem.fill_topic(fill bigint, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    f record;
    found bigint[];
BEGIN
    PERFORM pg_current_xact_id();
    SELECT x.id, x.reason, x.cursor, x.to_position, x.snapshot, x.history_done, g.queue, g.topic_id INTO f
    FROM tandem.topic_fill AS x JOIN tandem.topic_group AS g ON g.id = x.group_id
    WHERE x.id = fill AND x.finished_at IS NULL FOR UPDATE OF x SKIP LOCKED;
    IF f.id IS NULL THEN
        RETURN NULL;
    ELSIF f.history_done THEN
        RETURN tandem.fill_gap(fill);
    END IF;
    SELECT coalesce(array_agg(u."position" ORDER BY u."position"), '{}') INTO found FROM (
        SELECT m."position" FROM tandem.message AS m
        WHERE m.topic_id = f.topic_id AND m."position" > f.cursor AND m."position" <= f.to_position
          AND pg_visible_in_snapshot(m.xid::text::xid8, f.snapshot) ORDER BY m."position" LIMIT most) AS u;
    PERFORM tandem.deliver_again(f.topic_id, ARRAY[f.queue], found);
    UPDATE tandem.topic_fill AS x
    SET cursor = coalesce(found[cardinality(found)], x.cursor), delivered = x.delivered + cardinality(found),
        history_done = cardinality(found) < most,
        finished_at = CASE WHEN cardinality(found) < most AND x.reason <> 'start' THEN tandem.clock() END
    WHERE x.id = fill;
    RETURN cardinality(found);
END
$$;

CREATE FUNCTION tandem.find_heads(queue_name text, key text, lane_name text, floors bigint[], firsts bigint[]) RETURNS TABLE(heads bigint[], best integer)
    LANGUAGE sql STABLE
    AS $$
SELECT h.heads, (SELECT max(b) - 1 FROM generate_subscripts(h.heads, 1) AS b WHERE h.heads[b] IS NOT NULL)
FROM (SELECT ARRAY(
    SELECT CASE WHEN coalesce(l.floor, l.first) IS NOT NULL THEN (  -- most bands have nothing: look only where something may be
        SELECT b.pos FROM tandem.blocked AS b
        WHERE b.queue = queue_name AND b.partition_key = key AND b.lane = lane_name AND b.band = l.nth - 1
          AND b.pos >= least(l.floor, l.first)
        ORDER BY b.pos LIMIT 1) END
    FROM unnest(floors, firsts) WITH ORDINALITY AS l(floor, first, nth)) AS heads OFFSET 0) AS h
$$;

CREATE FUNCTION tandem.finish_band(wait double precision, wait_low double precision, wait_high double precision, mean double precision, deviation double precision) RETURNS TABLE(expected double precision, low double precision, high double precision)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
SELECT b.expected, b.low, b.high
FROM tandem.run_band(wait + mean, sqrt(deviation ^ 2 + CASE WHEN wait_low > 0
     THEN (wait ^ 2 * (exp((ln(wait_high / wait_low) / 2.5631) ^ 2) - 1)) ELSE 0 END)) AS b
$$;

CREATE TABLE tandem.touch (
    queue text NOT NULL COLLATE pg_catalog."C",
    pos bigint DEFAULT nextval('tandem.ready_position'::regclass) NOT NULL,
    partition_key text NOT NULL COLLATE pg_catalog."C",
    band smallint,
    first bigint,
    ended integer DEFAULT 0 NOT NULL,
    ran_ms double precision DEFAULT 0 NOT NULL,
    charged_ms double precision DEFAULT 0 NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.touch IS 'Says to admission: look at this key. One row per key and transaction that adds to blocked or ends a lease';

COMMENT ON COLUMN tandem.touch.first IS 'the lowest blocked.pos that came, in `band`';

COMMENT ON COLUMN tandem.touch.ended IS 'leases that ended after ran_ms, of which charged_ms had been charged when they were admitted';

CREATE FUNCTION tandem.finish_leases(heard_by text, job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[], OUT finished bigint[], OUT ends tandem.touch[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    WITH input AS MATERIALIZED (
        SELECT u.job_id, u.token, u.ran_ms, u.result, u.ttl
        FROM unnest(job_ids, tokens, ran_ms, results, ttls) AS u(job_id, token, ran_ms, result, ttl) ORDER BY u.job_id
    ), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
        DELETE FROM tandem.lease AS l USING input AS i
        WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
        RETURNING l.job_id, l.token, l.worker, l.attempt, i.ran_ms, i.result, i.ttl, l.queue, l.partition_key, l.slot, l.charged_ms
    ), by_key AS (
        SELECT g.queue, coalesce(g.partition_key, '') AS partition_key, count(*) AS ended, sum(g.ran_ms) AS ran, sum(g.charged_ms) AS charged
        FROM gone AS g WHERE g.slot IS NOT NULL GROUP BY 1, 2
    ), told AS (
        INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
        SELECT k.queue, k.partition_key, k.ended, k.ran, k.charged FROM by_key AS k WHERE k.queue IS DISTINCT FROM heard_by
    ), closed AS (
        INSERT INTO tandem.done (job_id, token, worker, started_at, finished_at, attempt, outcome, result, result_expires_at)
        SELECT g.job_id, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.attempt, 'SUCCEEDED', g.result::jsonb,
               c.at + g.ttl * interval '1 s'
        FROM gone AS g CROSS JOIN clock AS c
        RETURNING job_id
    )
    SELECT (SELECT coalesce(array_agg(c.job_id), '{}') FROM closed AS c),
           (SELECT array_agg(ROW(k.queue, 0, k.partition_key, NULL, NULL, k.ended, k.ran, k.charged)::tandem.touch)
            FROM by_key AS k WHERE k.queue = heard_by)
    INTO finished, ends;
    IF starts_with(heard_by, 'topic.') THEN  -- deliveries: what the audit log of topics will tell
        INSERT INTO tandem.delivery_end (xid, queue, action, worker, attempt, started_at, ended_at, job_ids)
        SELECT pg_current_xact_id(), heard_by, 'ack', d.worker, d.attempt, min(d.started_at), max(d.finished_at), array_agg(d.job_id)
        FROM tandem.done AS d WHERE d.job_id = ANY (finished) GROUP BY d.worker, d.attempt;
    END IF;
END
$$;

CREATE FUNCTION tandem.fire_schedule(name text, expected timestamp with time zone, ticks timestamp with time zone[], next timestamp with time zone) RETURNS TABLE(tick timestamp with time zone, job_id bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    s tandem.schedule;
    one timestamptz;
    made bigint;
BEGIN
    UPDATE tandem.schedule AS u SET next_tick_at = fire_schedule.next, last_tick_at = ticks[cardinality(ticks)]
    WHERE u.name = fire_schedule.name AND u.next_tick_at = expected AND u.paused_at IS NULL
      AND ticks[cardinality(ticks)] <= tandem.clock() RETURNING u.* INTO s;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOREACH one IN ARRAY ticks LOOP
        CONTINUE WHEN EXISTS (SELECT FROM tandem.schedule_tick AS t WHERE t.schedule = s.name AND t.tick = one);
        SELECT e.job_id INTO made FROM tandem.enqueue_jobs(
            ARRAY[s.kind], ARRAY[s.payload], ARRAY[s.queue], ARRAY[s.priority], NULL, ARRAY[s.partition_key], NULL, NULL,
            ARRAY[jsonb_build_object('schedule', s.name, 'tick', to_char(one AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))],
            CASE WHEN NOT s.overlap THEN ARRAY['schedule ' || s.name] END, ARRAY['unfinished']) AS e;
        INSERT INTO tandem.schedule_tick (schedule, tick, job_id, fired_at) VALUES (s.name, one, made, tandem.clock());
        tick := one;
        job_id := made;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION tandem.fits_job(kind text, queue text, priority integer, partition_key text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((kind COLLATE "C") ~ '^[a-z][a-z0-9_.-]*$'::text) AND (length(kind) <= 63) AND ((queue COLLATE "C") ~ '^[a-z][a-z0-9_.-]*$'::text) AND (length(queue) <= 63) AND ((priority >= 0) AND (priority <= 9)) AND COALESCE(((length(partition_key) >= 1) AND (length(partition_key) <= 255)), true));

CREATE FUNCTION tandem.fits_size(payload jsonb, policy jsonb, context jsonb) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (((pg_column_size(payload) <= 256) OR (octet_length((payload)::text) <= 262144)) AND COALESCE((octet_length((policy)::text) <= 16384), true) AND COALESCE((octet_length((context)::text) <= 16384), true));

CREATE FUNCTION tandem.global_turns(queue text, exempt boolean, servers double precision) RETURNS TABLE(servers double precision, others double precision)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
WITH whole AS MATERIALIZED (
    SELECT g.max_running::float8 AS most, coalesce((
        SELECT sum(w.jobs * s.mean) FROM tandem.queue AS o
        CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (SELECT FROM tandem.blocked AS b WHERE b.queue = o.name LIMIT 10000) AS b) AS w
        CROSS JOIN LATERAL (SELECT s.mean FROM tandem.service_stats(o.name) AS s WHERE s.kind IS NULL AND w.jobs > 0) AS s
        WHERE o.managed AND o.name <> $1 AND o.paused_at IS NULL), 0) AS others
    FROM tandem.concurrency_limit AS g JOIN tandem.queue AS q ON q.name = $1 AND q.managed
    WHERE g.name = 'global' AND NOT $2
)
SELECT least($3, w.most), coalesce(w.others, 0) FROM (SELECT 1) AS one LEFT JOIN whole AS w ON true
UNION ALL
SELECT least($3, w.most, h.held), 0 FROM whole AS w CROSS JOIN LATERAL (
    SELECT count(*) AS held FROM tandem.lease AS l WHERE l.queue = $1 AND l.exempt IS NOT NULL AND NOT l.exempt) AS h
WHERE w.others > 0 AND h.held > 0
$_$;

CREATE FUNCTION tandem.head_waits(q tandem.queue, key text, lane_name text, heads bigint[], tat timestamp with time zone, every interval, burst integer, at timestamp with time zone) RETURNS TABLE(due_at timestamp with time zone, halted boolean, kind text)
    LANGUAGE sql STABLE
    AS $$
SELECT nullif(greatest(tat - (burst - 1) * every, h.not_before, at), at),
       q.ordered AND EXISTS (SELECT FROM tandem.halted AS s WHERE q.ordered AND s.queue = q.name AND s.partition_key = key), h.kind
FROM (SELECT 1) AS one LEFT JOIN LATERAL (
    SELECT b.not_before, (SELECT j.kind FROM tandem.job AS j WHERE j.id = b.job_id) AS kind FROM tandem.blocked AS b
    WHERE q.ordered AND key <> '' AND b.queue = q.name AND b.partition_key = key AND b.lane = lane_name AND b.band = 0
      AND b.pos = heads[1] LIMIT 1) AS h ON true  -- LIMIT: a plan of its own, which unordered queues do not enter
$$;

CREATE FUNCTION tandem.hear_touches(q tandem.queue, st tandem.admission, at timestamp with time zone, thorough boolean, ends tandem.touch[], limited text[]) RETURNS tandem.admission
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    probes boolean := thorough OR st.probed_at < at - interval '0.2 s' OR st.probed_at > at;
    start bigint := CASE WHEN NOT probes THEN st.heard ELSE coalesce((SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = q.name AND f.priority = -1), 0) END;
    lanes text[] := ARRAY(SELECT DISTINCT s FROM unnest(st.shelves || ''::text) AS s WHERE NOT q.ordered OR s = '');
    said record; nothing CONSTANT bigint[] := array_fill(NULL::bigint, '{10}'); sample CONSTANT integer := 4; little_ms CONSTANT integer := 20;
BEGIN
    WITH gone AS (
        DELETE FROM tandem.touch AS t USING (SELECT o.ctid AS tid FROM tandem.touch AS o WHERE o.queue = q.name AND o.pos >= start ORDER BY o.pos LIMIT 1000) AS f
        WHERE t.ctid = f.tid RETURNING t.pos, t.partition_key, t.band, t.first, t.ended, t.ran_ms, t.charged_ms
    ), by_key AS (
        SELECT g.partition_key, sum(g.ended) AS ended, greatest(sum(g.ran_ms), sum(g.ended)) AS ran, sum(g.charged_ms) AS charged, bool_or(g.first IS NULL) AS asks, bool_and(g.ended > 0 OR g.first IS NOT NULL) AS plain, min(g.first) AS first,
               CASE WHEN min(g.band) = max(g.band) THEN min(g.band) + 1 END AS place,  -- most are of one band: no function for ten
               CASE WHEN max(g.first) IS NULL THEN nothing WHEN min(g.band) = max(g.band) THEN nothing[1:min(g.band)] || min(g.first) || nothing[min(g.band) + 2:] ELSE tandem.lowest_by_band(array_agg(g.band), array_agg(g.first)) END AS firsts,
               bool_and(g.ended > 0) AND abs(greatest(sum(g.ran_ms), sum(g.ended)) - sum(g.charged_ms)) <= little_ms AS is_little, random() * sample < 1 AS drawn
        FROM (SELECT o.partition_key, o.band, o.first, o.ended, o.ran_ms, o.charged_ms FROM gone AS o UNION ALL SELECT e.partition_key, e.band, e.first, e.ended, e.ran_ms, e.charged_ms FROM unnest(ends) AS e) AS g GROUP BY g.partition_key
    ), known AS (
        SELECT k.partition_key, l.lane, k.firsts, t.tid, t.tat, t.lease_floor, CASE WHEN k.place IS NULL THEN t.floors ELSE t.floors[1:k.place - 1] || least(t.floors[k.place], k.first) || t.floors[k.place + 1:10] END AS heads,
               tandem.next_vtime(t.vtime, CASE WHEN t.floors <> nothing THEN st.clock_ms - 5000 ELSE st.clock_ms END, c.times * (k.ran - k.charged) / coalesce(x.weight, 1)) AS vtime,
               tandem.next_mean(coalesce(t.mean_ms, st.mean_ms), c.times * k.ran, c.times * k.ended) AS mean,
               t.tid IS NOT NULL AND x.queue IS NULL AND NOT (q.ordered OR q.rank_keys) AND q.key_rate IS NULL AND k.plain AND (k.first IS NULL OR k.place IS NOT NULL) AS plain
        FROM by_key AS k CROSS JOIN unnest(lanes) AS l(lane)
        LEFT JOIN LATERAL (SELECT t.ctid AS tid, t.vtime, t.mean_ms, t.tat, t.floors, t.lease_floor, t.eligible FROM tandem.turn AS t WHERE t.queue = q.name AND t.partition_key = k.partition_key AND t.lane = l.lane ORDER BY t.seq DESC LIMIT 1) AS t ON true
        LEFT JOIN tandem.key AS x ON x.queue = q.name AND x.partition_key = k.partition_key
        CROSS JOIN LATERAL (SELECT CASE WHEN k.is_little AND (t.eligible OR t.floors = nothing) THEN sample ELSE 1 END AS times) AS c
        WHERE t.floors IS NULL OR k.asks AND (k.drawn OR (k.is_little AND (t.eligible OR t.floors = nothing)) IS NOT TRUE)
              OR CASE WHEN k.place IS NOT NULL THEN coalesce(t.floors[k.place] > k.first, true) WHEN k.first IS NOT NULL THEN NOT tandem.covers(t.floors, k.firsts) END
    ), renewed AS (
        UPDATE tandem.turn AS t SET seq = nextval('tandem.ready_position'), shelf = k.lane, rank = 0, vtime = k.vtime, mean_ms = k.mean, due_at = NULL,
            eligible = k.heads <> nothing AND coalesce(n.live < q.key_max_running OR k.partition_key = '', true), floors = k.heads, lease_floor = n.lease_floor
        FROM known AS k CROSS JOIN LATERAL tandem.count_leases(q.name, k.partition_key, k.lease_floor, CASE WHEN k.partition_key <> '' THEN q.key_max_running END) AS n
        WHERE k.plain AND t.ctid = k.tid RETURNING t.shelf, t.vtime, t.eligible
    ), shelf AS (SELECT x.shelf, x.rank, min(x.start) AS start FROM (SELECT r.shelf, 0::smallint AS rank, r.vtime AS start FROM renewed AS r WHERE r.eligible
              UNION ALL SELECT a.shelf, a.rank, a.start FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start)) AS x GROUP BY x.shelf, x.rank)
    SELECT array_agg(t.partition_key) AS keys, array_agg(t.lane) AS lanes, array_agg(t.vtime) AS vtimes, array_agg(t.mean) AS means, array_agg(t.tat) AS tats, CASE WHEN bool_or(t.firsts <> nothing) THEN array_agg(t.firsts) END AS firsts,  -- for all lanes: the sweep may remind of a kind's
           (SELECT array_agg(s.shelf) FROM shelf AS s) AS shelves, (SELECT array_agg(s.rank) FROM shelf AS s) AS ranks, (SELECT array_agg(s.start) FROM shelf AS s) AS starts,
           (SELECT max(g.pos) FROM gone AS g) AS last, (SELECT count(*) FROM gone) AS heard, (SELECT sum(k.ran) FROM by_key AS k) AS ran, (SELECT sum(k.ended) FROM by_key AS k)::bigint AS ended
    INTO said FROM known AS t WHERE NOT t.plain;
    st.shelves := coalesce(said.shelves, '{}'); st.ranks := coalesce(said.ranks, '{}'); st.starts := coalesce(said.starts, '{}');
    st.heard := greatest(st.heard, said.last + 1); st.probed_at := CASE WHEN probes AND said.heard < 1000 THEN at ELSE st.probed_at END;
    st.mean_ms := tandem.next_mean(st.mean_ms, said.ran, said.ended);
    RETURN CASE WHEN said.keys IS NULL THEN st ELSE tandem.place_turns(q, st, at, said.keys, said.lanes, said.vtimes, said.means, said.tats, said.firsts, limited) END;
END
$$;

CREATE TABLE tandem.blocked (
    partition_key text NOT NULL COLLATE pg_catalog."C",
    priority smallint NOT NULL,
    pos bigint NOT NULL,
    job_id bigint NOT NULL,
    blocked_at timestamp with time zone NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    suspect boolean NOT NULL,
    waiting_for text NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    lane text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    band smallint NOT NULL,
    not_before timestamp with time zone,
    CONSTRAINT blocked_reason CHECK ((waiting_for = ANY (ARRAY['limit'::text, 'key'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.blocked IS 'Jobs of managed queues that wait for admission; key '''' is none, lane a kind under a limit of its own';

CREATE TABLE tandem.dependent (
    job_id bigint NOT NULL,
    held_at timestamp with time zone NOT NULL,
    run_at timestamp with time zone,
    priority smallint NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C",
    on_failure text NOT NULL,
    CONSTRAINT dependent_on_failure CHECK ((on_failure = ANY (ARRAY['cancel'::text, 'run'::text, 'wait'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.dependent IS 'Jobs that wait for other jobs to end: a membership like ready';

CREATE TABLE tandem.done (
    job_id bigint NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    attempt smallint NOT NULL,
    outcome text NOT NULL COLLATE pg_catalog."C",
    error_class text COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    reason text,
    result jsonb,
    result_expires_at timestamp with time zone,
    CONSTRAINT done_outcome CHECK ((outcome = ANY (ARRAY['SUCCEEDED'::text, 'DEAD'::text, 'CANCELLED'::text])))
)
PARTITION BY RANGE (job_id);

COMMENT ON TABLE tandem.done IS 'Jobs that came to an end; the same ranges of ids as job';

CREATE TABLE tandem.job (
    id bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    event_id uuid,
    priority smallint NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C",
    payload jsonb NOT NULL,
    policy jsonb,
    context jsonb
)
PARTITION BY RANGE (id);

COMMENT ON TABLE tandem.job IS 'What is to be done: immutable, partitioned by ranges of ids, dropped by retention';

COMMENT ON COLUMN tandem.job.policy IS 'this job''s own max_attempts, timeout_s, ... over those of its kind';

COMMENT ON COLUMN tandem.job.context IS 'request_id, traceparent and the like: carried along, never interpreted by the queue';

CREATE TABLE tandem.ready (
    pos bigint NOT NULL,
    job_id bigint NOT NULL,
    ready_at timestamp with time zone NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    suspect boolean NOT NULL,
    wakes boolean DEFAULT false NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C"
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.1');

COMMENT ON TABLE tandem.ready IS 'Jobs that may be claimed now; pos only grows, whatever re-enters takes a fresh one';

COMMENT ON COLUMN tandem.ready.wakes IS 'the first of its transaction and lane: a deferred trigger wakes the lane at commit';

CREATE TABLE tandem.scheduled (
    next_attempt_at timestamp with time zone NOT NULL,
    job_id bigint NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    suspect boolean NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C"
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.scheduled IS 'Jobs that are due later: delayed ones and retries';

CREATE FUNCTION tandem.holds_unique_key(scope text, job bigint) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN CASE scope WHEN 'unfinished'::text THEN ((NOT (EXISTS (SELECT FROM tandem.done d WHERE (d.job_id = holds_unique_key.job)))) AND (EXISTS (SELECT FROM tandem.job j WHERE (j.id = holds_unique_key.job)))) WHEN 'pending'::text THEN ((EXISTS (SELECT FROM tandem.ready r WHERE (r.job_id = holds_unique_key.job))) OR (EXISTS (SELECT FROM tandem.scheduled s WHERE (s.job_id = holds_unique_key.job))) OR (EXISTS (SELECT FROM tandem.dependent w WHERE (w.job_id = holds_unique_key.job))) OR (EXISTS (SELECT FROM tandem.blocked b WHERE (b.job_id = holds_unique_key.job)))) ELSE true END;

CREATE FUNCTION tandem.insert_jobs(at timestamp with time zone, ids bigint[], kinds text[], payloads jsonb[], queues text[], priorities smallint[], run_ats timestamp with time zone[], partition_keys text[], event_ids uuid[], policies jsonb[], contexts jsonb[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
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
), managed AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS queues
), now AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), id, at, priority, 0, 0, false, queue, partition_key
    FROM input WHERE coalesce(run_at <= at, true) AND queue <> ALL ((SELECT m.queues FROM managed AS m)::text[])
)
SELECT tandem.block_jobs(array_agg(id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(0::smallint),
                         array_agg(0::smallint), array_agg(false), array_agg(at), array_agg(NULL::timestamptz), false)
FROM input WHERE coalesce(run_at <= at, true) AND queue = ANY ((SELECT m.queues FROM managed AS m)::text[])
$$;

CREATE SEQUENCE tandem.job_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE FUNCTION tandem.is_dropped(job bigint) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN ((job > 0) AND (to_regclass(('tandem.job_'::text || (job / 100000000))) IS NULL) AND (job <= (SELECT s.last_value FROM tandem.job_id s)));

CREATE FUNCTION tandem.is_enqueued_here(job bigint) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT coalesce((
    SELECT pg_xact_status((x.near + CASE WHEN x.near - x.ours > 2147483648 THEN -4294967296
                                         WHEN x.ours - x.near > 2147483648 THEN 4294967296 ELSE 0 END)::text::xid8) = 'in progress'
    FROM (SELECT c.ours, (c.ours >> 32 << 32) + j.xmin::text::bigint AS near
          FROM tandem.job AS j, (SELECT pg_current_xact_id()::text::bigint AS ours) AS c WHERE j.id = $1) AS x), false)
$_$;

CREATE FUNCTION tandem.job_circumstances(job bigint) RETURNS TABLE(at timestamp with time zone, place text, queue text, priority smallint, attempt smallint, suspect boolean, alone boolean, since timestamp with time zone, until timestamp with time zone, worker text, detail text, created_at timestamp with time zone, kind text, declared boolean, hooked boolean, partition_key text, paused_at timestamp with time zone, paused_by text, cancel_at timestamp with time zone, cancel_by text, cancel_why text, slots bigint, seen_at timestamp with time zone, held bigint, ahead bigint, failed_at timestamp with time zone, failure text, swept boolean)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), place AS MATERIALIZED (
    SELECT 'ready' AS place, queue, priority, pos, attempt, suspect, false AS alone, ready_at AS since,
           NULL::timestamptz AS until, partition_key, NULL::uuid AS worker, NULL AS detail FROM tandem.ready WHERE job_id = $1
    UNION ALL SELECT 'scheduled', queue, priority, NULL, attempt, suspect, false, NULL, next_attempt_at, partition_key,
           NULL, NULL FROM tandem.scheduled WHERE job_id = $1
    UNION ALL SELECT 'blocked', queue, priority, NULL, attempt, suspect, false, blocked_at, NULL, partition_key, NULL,
           waiting_for FROM tandem.blocked WHERE job_id = $1
    UNION ALL SELECT 'dependent', queue, priority, NULL, 0, false, false, held_at, NULL, partition_key, NULL,
           tandem.awaited_jobs(job_id) FROM tandem.dependent WHERE job_id = $1
    UNION ALL SELECT 'lease', queue, priority, NULL, attempt, suspect, alone, claimed_at, expires_at, partition_key,
           worker, NULL FROM tandem.lease WHERE job_id = $1
    UNION ALL SELECT lower(outcome), NULL, NULL, NULL, attempt, NULL, NULL, finished_at, NULL, NULL, worker,
           nullif(concat_ws(': ', error_class, reason), '') FROM tandem.done WHERE job_id = $1
)
SELECT c.at, p.place, coalesce(p.queue, j.queue), coalesce(p.priority, j.priority), p.attempt, p.suspect, p.alone, p.since,
       p.until, coalesce(w.name, p.worker::text), p.detail, j.created_at, j.kind, k.name IS NOT NULL, k.hooked IS TRUE,
       coalesce(p.partition_key, j.partition_key), q.paused_at, q.paused_by, i.requested_at, i.requested_by, i.reason,
       s.slots, s.seen_at, (SELECT count(*) FROM tandem.lease AS l WHERE l.queue = p.queue),
       (SELECT count(*) FROM (
            SELECT FROM generate_series(p.priority, 9) AS g(priority) CROSS JOIN LATERAL (
                SELECT FROM tandem.ready AS r WHERE r.queue = p.queue AND r.priority = g.priority
                AND r.pos >= (SELECT coalesce(max(f.floor), 0) FROM tandem.lane_floor AS f
                              WHERE f.queue = p.queue AND f.priority = g.priority)
                AND r.pos < CASE WHEN g.priority > p.priority THEN 9223372036854775807 ELSE p.pos END LIMIT 1000) AS r
            LIMIT 1000) AS a),
       t.finished_at, concat_ws(': ', t.error_class, left(t.message, 200)),
       EXISTS (SELECT FROM tandem.leader AS d WHERE d.name = 'sweeper' AND d.expires_at > c.at)
FROM clock AS c LEFT JOIN place AS p ON true
LEFT JOIN tandem.job AS j ON j.id = $1
LEFT JOIN tandem.kind AS k ON k.name = j.kind
LEFT JOIN tandem.queue AS q ON q.name = p.queue
LEFT JOIN tandem.worker AS w ON w.id = p.worker
LEFT JOIN tandem.cancel_intent AS i ON i.job_id = $1
LEFT JOIN LATERAL (
    SELECT sum(n.concurrency) FILTER (WHERE n.stopped_at IS NULL AND n.seen_at > c.at - interval '1 minute') AS slots,
           max(n.seen_at) AS seen_at FROM tandem.worker AS n WHERE p.queue = ANY (n.queues)) AS s ON true
LEFT JOIN LATERAL (SELECT a.finished_at, a.error_class, a.message FROM tandem.attempt AS a WHERE a.job_id = $1
                   ORDER BY a.finished_at DESC LIMIT 1) AS t ON true
$_$;

CREATE FUNCTION tandem.jobs_ahead(job bigint) RETURNS TABLE(ahead bigint, exact boolean)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT sum(CASE WHEN n.jobs < 10000 OR n.last = n.first THEN n.jobs
                ELSE greatest(n.jobs, (n.jobs::float8 * (n.until - n.first) / (n.last - n.first))::bigint) END)::bigint,
       bool_and(n.jobs < 10000)
FROM tandem.ready AS r CROSS JOIN generate_series(r.priority, 9) AS g(priority)
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, min(u.pos) AS first, max(u.pos) AS last,
           CASE WHEN g.priority = r.priority THEN r.pos ELSE (SELECT p.last_value FROM tandem.ready_position AS p) END AS until
    FROM (SELECT x.pos FROM tandem.ready AS x WHERE x.queue = r.queue AND x.priority = g.priority
          AND x.pos >= (SELECT coalesce(max(f.floor), 0) FROM tandem.lane_floor AS f
                        WHERE f.queue = r.queue AND f.priority = g.priority)
          AND x.pos < CASE WHEN g.priority > r.priority THEN 9223372036854775807 ELSE r.pos END
          ORDER BY x.pos LIMIT 10000) AS u) AS n
WHERE r.job_id = $1 HAVING count(*) > 0
UNION ALL
SELECT a.jobs, a.jobs < 10000 FROM tandem.blocked AS b CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT FROM tandem.blocked AS x WHERE x.queue = b.queue AND x.partition_key = b.partition_key
        AND (x.band > b.band OR x.band = b.band AND x.pos < b.pos) LIMIT 10000) AS u) AS a
WHERE b.job_id = $1
$_$;

CREATE TABLE tandem.lease (
    job_id bigint NOT NULL,
    token bigint NOT NULL,
    worker uuid NOT NULL,
    claimed_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    crashes smallint NOT NULL,
    suspect boolean NOT NULL,
    alone boolean DEFAULT false NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C",
    slot bigint,
    kind text COLLATE pg_catalog."C",
    exempt boolean,
    charged_ms double precision
)
WITH (fillfactor='90', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.1');

COMMENT ON TABLE tandem.lease IS 'Jobs that a worker holds; every later write must match the random token';

COMMENT ON COLUMN tandem.lease.slot IS 'grows with each admission; NULL outside managed queues';

CREATE FUNCTION tandem.kept_in_sight(q tandem.queue, key text, heads bigint[], live bigint, lease_floor bigint) RETURNS bigint[]
    LANGUAGE sql STABLE
    RETURN CASE WHEN ((q).ordered AND (live > 0)) THEN (ARRAY[LEAST((heads)[1], (SELECT min(l.job_id) AS min FROM (SELECT o.job_id FROM tandem.lease o WHERE ((o.queue = (kept_in_sight.q).name) AND (o.partition_key = kept_in_sight.key) AND (o.kind IS NOT NULL) AND (o.slot >= kept_in_sight.lease_floor)) OFFSET 0) l))] || (heads)[2:]) ELSE heads END;

CREATE TABLE tandem.key (
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text NOT NULL COLLATE pg_catalog."C",
    max_running integer,
    weight double precision DEFAULT 1 NOT NULL,
    exempt boolean DEFAULT false NOT NULL,
    rate double precision,
    burst integer,
    CONSTRAINT key_burst CHECK ((burst > 0)),
    CONSTRAINT key_max_running CHECK ((max_running >= 0)),
    CONSTRAINT key_rate CHECK ((rate > (0)::double precision)),
    CONSTRAINT key_weight CHECK ((weight > (0)::double precision))
);

COMMENT ON TABLE tandem.key IS 'What one partition key of a managed queue has of its own: limit, weight, rate, exemption from the global limit';

CREATE FUNCTION tandem.key_terms(q tandem.queue, k tandem.key, partition_key text) RETURNS TABLE(most integer, every interval, burst integer, weight double precision)
    LANGUAGE sql STABLE
    AS $$
SELECT CASE WHEN partition_key <> '' THEN least(coalesce(k.max_running, q.key_max_running), CASE WHEN q.ordered THEN 1 END) END,
       CASE WHEN partition_key <> '' THEN interval '1 s' / coalesce(k.rate, q.key_rate) END,
       coalesce(k.burst, q.key_burst), coalesce(k.weight, 1.0)
$$;

CREATE FUNCTION tandem.kind_servers(kind text) RETURNS double precision
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT c.max_running::float8 / greatest(1, (
    SELECT sum(n.turns) FROM tandem.queue AS q CROSS JOIN LATERAL (
        SELECT count(*) AS turns FROM (SELECT FROM tandem.turn AS t WHERE t.queue = q.name AND t.shelf = $1 AND t.eligible
                                       LIMIT 100) AS t) AS n
    WHERE q.managed))
FROM tandem.concurrency_limit AS c WHERE c.name = 'kind:' || $1
$_$;

CREATE FUNCTION tandem.kinds_ahead(job bigint) RETURNS TABLE(kind text, jobs bigint, running bigint, mean double precision, deviation double precision, most double precision, room bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
WITH place AS MATERIALIZED (
    SELECT b.queue, b.partition_key, b.band, b.pos, j.kind FROM tandem.blocked AS b JOIN tandem.job AS j ON j.id = b.job_id
    WHERE b.job_id = $1
), ahead AS MATERIALIZED (
    SELECT j.kind, count(*) AS jobs FROM (
        SELECT x.job_id FROM place AS p JOIN tandem.blocked AS x ON x.queue = p.queue AND x.partition_key = p.partition_key
        AND (x.band > p.band OR x.band = p.band AND x.pos < p.pos) LIMIT 10000) AS u
    JOIN tandem.job AS j ON j.id = u.job_id GROUP BY j.kind
), stats AS MATERIALIZED (
    SELECT s.kind, s.mean, s.deviation FROM place AS p CROSS JOIN LATERAL tandem.service_stats(p.queue) AS s
)
SELECT n.kind, coalesce(a.jobs, 0),
       (SELECT count(*) FROM tandem.lease AS l WHERE l.queue = p.queue AND l.kind = n.kind AND l.exempt IS NOT NULL
        AND coalesce(l.partition_key, '') = p.partition_key),
       coalesce(s.mean, every.mean), coalesce(s.deviation, every.deviation), tandem.kind_servers(n.kind),
       c.max_running - (SELECT count(*) FROM tandem.lease AS l WHERE l.kind = n.kind AND l.slot IS NOT NULL AND c.max_running IS NOT NULL)
FROM place AS p CROSS JOIN LATERAL (SELECT a.kind FROM ahead AS a UNION SELECT p.kind) AS n
LEFT JOIN ahead AS a ON a.kind = n.kind LEFT JOIN stats AS s ON s.kind = n.kind
LEFT JOIN stats AS every ON every.kind IS NULL
LEFT JOIN tandem.concurrency_limit AS c ON c.name = 'kind:' || n.kind
$_$;

CREATE FUNCTION tandem.let_go(jobs bigint[], at timestamp with time zone) RETURNS TABLE(job_id bigint, queue text)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.lowest_by_band(bands smallint[], positions bigint[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE
    RETURN ARRAY(SELECT min(u.pos) AS min FROM (generate_series(0, 9) g(band) LEFT JOIN UNNEST(lowest_by_band.bands, lowest_by_band.positions) u(band, pos) USING (band)) GROUP BY g.band ORDER BY g.band);

CREATE FUNCTION tandem.manage_queue(name text, ordered boolean DEFAULT false, dead_head text DEFAULT 'skip'::text, key_limit integer DEFAULT NULL::integer, key_rate double precision DEFAULT NULL::double precision, key_burst integer DEFAULT 1, rank_keys boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_variable
DECLARE
    before boolean := (SELECT q.ordered FROM tandem.queue AS q WHERE q.name = manage_queue.name AND q.managed FOR UPDATE);
BEGIN
    INSERT INTO tandem.queue AS q (name, managed, ordered, dead_head, key_max_running, key_rate, key_burst, rank_keys)
    VALUES (name, true, ordered, dead_head, key_limit, key_rate, key_burst, rank_keys)
    ON CONFLICT ON CONSTRAINT queue_pkey DO UPDATE
    SET managed = true, ordered = excluded.ordered, dead_head = excluded.dead_head, key_max_running = excluded.key_max_running,
        key_rate = excluded.key_rate, key_burst = excluded.key_burst, rank_keys = excluded.rank_keys;
    IF before <> ordered THEN  -- another order: what waits is sorted in again, by the key of its new one
        WITH sorted AS (
            UPDATE tandem.blocked AS b SET band = CASE WHEN ordered THEN 0 ELSE b.priority END, lane = '', pos = b.job_id,
                   waiting_for = CASE WHEN ordered THEN 'key' ELSE 'limit' END
            WHERE b.queue = manage_queue.name RETURNING b.partition_key, b.band, b.pos
        )
        INSERT INTO tandem.touch (queue, partition_key, band, first)
        SELECT manage_queue.name, s.partition_key, s.band, min(s.pos) FROM sorted AS s GROUP BY s.partition_key, s.band;
    END IF;
    PERFORM tandem.recheck_keys(name, NULL);
END
$$;

CREATE FUNCTION tandem.move_waiting(queue_name text, most integer) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    moved bigint;
BEGIN
    PERFORM pg_current_xact_id(), tandem.wake_at_commit(tandem.wake_lane(queue_name));
    IF EXISTS (SELECT FROM tandem.queue AS q WHERE q.name = queue_name AND q.managed FOR NO KEY UPDATE) THEN
        UPDATE tandem.lease AS l SET slot = nextval('tandem.ready_position'), kind = j.kind, exempt = false, charged_ms = 0
        FROM tandem.job AS j WHERE l.queue = queue_name AND l.slot IS NULL AND j.id = l.job_id;
        WITH gone AS (
            DELETE FROM tandem.ready AS r USING (
                SELECT o.ctid AS tid FROM tandem.ready AS o WHERE o.queue = queue_name LIMIT most FOR UPDATE SKIP LOCKED) AS f
            WHERE r.ctid = f.tid
            RETURNING r.job_id, r.queue, r.partition_key, r.priority, r.attempt, r.crashes, r.suspect, r.ready_at
        )
        SELECT tandem.block_jobs(array_agg(job_id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(attempt),
                   array_agg(crashes), array_agg(suspect), array_agg(ready_at), array_agg(NULL::timestamptz), false)
        INTO moved FROM (SELECT * FROM gone ORDER BY priority DESC, job_id) AS g;
        RETURN coalesce(moved, 0);
    END IF;
    WITH gone AS (
        DELETE FROM tandem.blocked AS b USING (
            SELECT o.ctid AS tid FROM tandem.blocked AS o WHERE o.queue = queue_name ORDER BY o.band DESC, o.pos LIMIT most
            FOR UPDATE SKIP LOCKED) AS f
        WHERE b.ctid = f.tid
        RETURNING b.job_id, b.partition_key, b.priority, b.attempt, b.crashes, b.suspect, b.blocked_at, b.pos
    ), back AS (
        INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
        SELECT nextval('tandem.ready_position'), g.job_id, g.blocked_at, g.priority, g.attempt, g.crashes, g.suspect, queue_name,
               nullif(g.partition_key, '')
        FROM (SELECT * FROM gone ORDER BY pos) AS g RETURNING job_id
    )
    SELECT count(*) INTO moved FROM back;
    RETURN moved;
END
$$;

CREATE FUNCTION tandem.next_in_line(queue_name text, key text, lane_name text, floors bigint[], most bigint) RETURNS TABLE(job_id bigint, pos bigint, head bigint, nth bigint)
    LANGUAGE sql STABLE
    AS $$
SELECT w.job_id, w.pos, first_value(w.pos) OVER line, row_number() OVER line
FROM (SELECT g.band, b.job_id, b.pos
      FROM (SELECT f.nth - 1 AS band, f.floor FROM unnest(floors) WITH ORDINALITY AS f(floor, nth)
            WHERE f.floor IS NOT NULL ORDER BY f.nth DESC) AS g
      CROSS JOIN LATERAL (
          SELECT o.job_id, o.pos FROM tandem.blocked AS o
          WHERE o.queue = queue_name AND o.partition_key = key AND o.lane = lane_name AND o.band = g.band AND o.pos >= g.floor
          ORDER BY o.pos LIMIT most) AS b
      LIMIT most) AS w
WINDOW line AS (ORDER BY w.band DESC, w.pos)
$$;

CREATE FUNCTION tandem.next_mean(mean double precision, ran double precision, ended bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN (ended > 0) THEN (mean + (((1)::double precision - ((0.8)::double precision ^ (ended)::double precision)) * ((ran / (ended)::double precision) - mean))) ELSE mean END;

CREATE FUNCTION tandem.next_vtime(own double precision, least_one double precision, added double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    RETURN GREATEST((COALESCE(own, least_one) + COALESCE(added, (0)::double precision)), least_one);

CREATE FUNCTION tandem.open_admission(q tandem.queue, now timestamp with time zone, thorough boolean, ends tandem.touch[]) RETURNS tandem.admission
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    st tandem.admission;
    limited text[] := ARRAY(SELECT substr(c.name, 6) FROM tandem.concurrency_limit AS c WHERE c.name <> 'global');
    due record;
BEGIN
    SELECT a.* INTO st FROM tandem.admission AS a WHERE a.queue = q.name ORDER BY a.seq DESC LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO tandem.admission (queue, heard, probed_at, clock_ms, mean_ms, slot_floor, due_floor, shelves, ranks, starts, per_turn)
        VALUES (q.name, 0, '-infinity', 0, 10, 0, '-infinity', '{}', '{}', '{}', 5) RETURNING * INTO st;
    END IF;
    st := tandem.hear_touches(q, st, now, thorough, ends, limited);
    SELECT array_agg(t.partition_key) AS keys, array_agg(t.lane) AS lanes, array_agg(t.vtime) AS vtimes, array_agg(t.mean_ms) AS means,
           array_agg(t.tat) AS tats, count(*) AS keys_due, max(t.due_at) AS last
    INTO due FROM (SELECT o.partition_key, o.lane, o.vtime, o.mean_ms, o.tat, o.due_at FROM tandem.turn AS o
                   WHERE o.queue = q.name AND o.due_at > st.due_floor AND o.due_at <= now ORDER BY o.due_at LIMIT 1000) AS t;
    IF due.keys IS NOT NULL THEN
        st := tandem.place_turns(q, st, now, due.keys, due.lanes, due.vtimes, due.means, due.tats, NULL, limited);
    END IF;
    IF due.keys_due < 1000 THEN
        st.due_floor := least(now, (SELECT min(o.due_at) - interval '1 us' FROM tandem.turn AS o
                                    WHERE o.queue = q.name AND o.due_at > st.due_floor));
    END IF;
    RETURN st;
END
$$;

CREATE FUNCTION tandem.open_turns(queue_name text, st tandem.admission, want bigint, global_room bigint, kinds text[], kind_rooms bigint[]) RETURNS TABLE(partition_key text, lane text, rank smallint, vtime double precision, floors bigint[], mean_ms double precision, tat timestamp with time zone, lease_floor bigint, tid tid)
    LANGUAGE sql STABLE
    AS $$
SELECT t.partition_key, t.lane, t.rank, t.vtime, t.floors, t.mean_ms, t.tat, t.lease_floor, t.tid
FROM unnest(st.shelves, st.ranks, st.starts) AS s(shelf, rank, start)
LEFT JOIN unnest(kinds, kind_rooms) AS k(kind, room) ON k.kind = s.shelf
CROSS JOIN (SELECT CASE WHEN want <= 8 THEN want ELSE least(want, ceil((want + 10) / greatest(1, st.per_turn)))::bigint END AS most) AS n
CROSS JOIN LATERAL (
    SELECT o.partition_key, o.lane, o.rank, o.vtime, o.floors, o.mean_ms, o.tat, o.lease_floor, o.ctid AS tid FROM tandem.turn AS o
    WHERE o.queue = queue_name AND o.shelf = s.shelf AND o.rank = s.rank AND o.eligible AND o.vtime >= s.start
    ORDER BY o.vtime LIMIT greatest(0, least(n.most, coalesce(k.room, want)))) AS t
WHERE s.start < 'infinity' AND coalesce(k.room, 1) > 0 AND (coalesce(global_room, 1) > 0 OR s.rank = 10)
ORDER BY t.rank DESC, t.vtime LIMIT want
$$;

CREATE FUNCTION tandem.order_topic_group(topic text, name text, ordered boolean, dead_head text DEFAULT 'skip'::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_variable
DECLARE
    target text;
    q tandem.queue;
BEGIN
    UPDATE tandem.topic_group AS g SET ordered = order_topic_group.ordered
    FROM tandem.topic AS t WHERE t.id = g.topic_id AND t.name = topic AND g.name = order_topic_group.name
    RETURNING g.queue INTO target;
    IF target IS NULL THEN
        RAISE EXCEPTION 'topic "%" has no group "%"', topic, name USING ERRCODE = 'undefined_object', HINT = 'See: tandem topics groups.';
    END IF;
    SELECT m.* INTO q FROM tandem.queue AS m WHERE m.name = target FOR UPDATE;
    IF ordered THEN
        PERFORM tandem.manage_queue(target, true, dead_head, q.key_max_running, q.key_rate, coalesce(q.key_burst, 1), coalesce(q.rank_keys, false));
    ELSE
        UPDATE tandem.queue AS m SET managed = false WHERE m.name = target AND m.managed;
    END IF;
    PERFORM tandem.wake_at_commit(tandem.wake_lane(target));
END
$$;

CREATE FUNCTION tandem.partition_survivors(number bigint, before timestamp with time zone, most integer) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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
            UNION SELECT w.job_id FROM tandem.dependent AS w WHERE w.job_id >= first AND w.job_id < past
            UNION SELECT n.after_job FROM tandem.dependency AS n WHERE n.after_job >= first AND n.after_job < past
            UNION SELECT d.job_id FROM tandem.done AS d WHERE d.job_id >= first AND d.job_id < past AND d.finished_at > before
        ) AS u LIMIT most + 1) AS s;
    RETURN CASE WHEN cardinality(survivors) <= most THEN survivors END;
END
$$;

CREATE FUNCTION tandem.place_turns(q tandem.queue, st tandem.admission, at timestamp with time zone, keys text[], lanes text[], vtimes double precision[], means double precision[], tats timestamp with time zone[], firsts bigint[], limited text[]) RETURNS tandem.admission
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE soonest timestamptz;
BEGIN
    WITH facts AS MATERIALIZED (
        SELECT u.partition_key, u.lane, u.vtime, u.mean, u.tat, o.tid, h.best, n.live, n.lease_floor, w.due_at,
               CASE WHEN q.ordered THEN tandem.kept_in_sight(q, u.partition_key, h.heads, n.live, n.lease_floor) ELSE h.heads END AS floors, CASE WHEN k.exempt THEN 10 WHEN q.rank_keys THEN coalesce(h.best, 0) ELSE 0 END AS rank,
               CASE WHEN NOT q.ordered THEN u.lane WHEN w.kind = ANY (limited) THEN w.kind ELSE '' END AS shelf,
               h.best IS NOT NULL AND coalesce(n.live < c.most, true) AND NOT w.halted AS goes
        FROM (SELECT i.partition_key, i.lane, i.vtime, i.mean, i.tat,
                     CASE WHEN firsts IS NOT NULL THEN ARRAY(SELECT firsts[i.ord][b] FROM generate_series(1, 10) AS b) END AS firsts
              FROM unnest(keys, lanes, vtimes, means, tats) WITH ORDINALITY AS i(partition_key, lane, vtime, mean, tat, ord)) AS u
        LEFT JOIN LATERAL (
            SELECT t.ctid AS tid, t.floors, t.lease_floor FROM tandem.turn AS t
            WHERE t.queue = q.name AND t.partition_key = u.partition_key AND t.lane = u.lane ORDER BY t.seq DESC LIMIT 1) AS o ON true
        LEFT JOIN tandem.key AS k ON k.queue = q.name AND k.partition_key = u.partition_key
        CROSS JOIN LATERAL tandem.key_terms(q, k, u.partition_key) AS c
        CROSS JOIN LATERAL tandem.find_heads(q.name, u.partition_key, u.lane, o.floors, u.firsts) AS h
        CROSS JOIN LATERAL tandem.count_leases(q.name, u.partition_key, coalesce(o.lease_floor, 0), c.most) AS n
        CROSS JOIN LATERAL tandem.head_waits(q, u.partition_key, u.lane, h.heads, u.tat, c.every, c.burst, at) AS w
    ), moved AS (
        UPDATE tandem.turn AS t SET seq = nextval('tandem.ready_position'), shelf = f.shelf, rank = f.rank, vtime = f.vtime, mean_ms = f.mean,
            eligible = f.goes AND f.due_at IS NULL, due_at = CASE WHEN f.goes THEN f.due_at END, floors = f.floors,
            lease_floor = f.lease_floor, tat = f.tat
        FROM facts AS f WHERE t.ctid = f.tid
    ), made AS (
        INSERT INTO tandem.turn (queue, partition_key, lane, shelf, rank, vtime, eligible, due_at, floors, lease_floor, mean_ms, tat)
        SELECT q.name, f.partition_key, f.lane, f.shelf, f.rank, f.vtime, f.goes AND f.due_at IS NULL,
               CASE WHEN f.goes THEN f.due_at END, f.floors, f.lease_floor, f.mean, f.tat
        FROM facts AS f WHERE f.tid IS NULL AND f.best IS NOT NULL
    ), shelf AS (
        SELECT x.shelf, x.rank, min(x.start) AS start, min(x.due_at) AS due_at
        FROM (SELECT f.shelf, f.rank, CASE WHEN f.due_at IS NULL THEN f.vtime ELSE 'infinity' END AS start, f.due_at
              FROM facts AS f WHERE f.goes
              UNION ALL SELECT a.shelf, a.rank, a.start, NULL FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start)) AS x
        GROUP BY x.shelf, x.rank
    )
    SELECT array_agg(s.shelf), array_agg(s.rank), array_agg(s.start), min(s.due_at) INTO st.shelves, st.ranks, st.starts, soonest
    FROM shelf AS s;
    st.due_floor := least(st.due_floor, soonest - interval '1 us');
    RETURN st;
END
$$;

CREATE FUNCTION tandem.publish(topic text, message jsonb, key text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb, message_id uuid DEFAULT NULL::uuid, dedup_key text DEFAULT NULL::text, schema_version integer DEFAULT 1) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    answer record;
BEGIN
    SELECT p.message_id, p.same_body INTO answer FROM tandem.publish_messages(
        topic, ARRAY[message], ARRAY[key], ARRAY[headers], CASE WHEN message_id IS NOT NULL THEN ARRAY[message_id] END,
        CASE WHEN dedup_key IS NOT NULL THEN ARRAY[dedup_key] END, ARRAY[schema_version]::smallint[]) AS p;
    IF NOT answer.same_body THEN
        RAISE EXCEPTION '"%" belongs to message % of topic "%" with another body', coalesce(dedup_key, message_id::text),
            answer.message_id, topic USING ERRCODE = 'unique_violation', HINT = 'Use another id for another message.';
    END IF;
    RETURN answer.message_id;
END
$$;

CREATE FUNCTION tandem.publish_messages(topic text, payloads jsonb[], keys text[] DEFAULT NULL::text[], headers jsonb[] DEFAULT NULL::jsonb[], message_ids uuid[] DEFAULT NULL::uuid[], dedup_keys text[] DEFAULT NULL::text[], schema_versions smallint[] DEFAULT NULL::smallint[], wake text DEFAULT 'commit'::text) RETURNS TABLE(ord bigint, message_id uuid, "position" bigint, created boolean, same_body boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
DECLARE
    at timestamptz; target record; places bigint[]; ids uuid[]; owners uuid[]; owner_places bigint[]; same boolean[];
BEGIN
    -- As in tandem.enqueue_jobs: the xid comes before any position and before the clock is read.
    PERFORM pg_current_xact_id();
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- An old snapshot would miss a group made meanwhile: this fails (40001) if the topic has changed since.
        PERFORM FROM tandem.topic AS t WHERE t.name = topic FOR SHARE;
    END IF;
    at := tandem.clock();
    target := tandem.publish_target(topic, payloads);
    PERFORM tandem.refuse_size(NULL, NULL, h) FROM unnest(headers) AS h WHERE NOT tandem.fits_size(NULL, NULL, h);
    IF cardinality(payloads) = 1 AND message_ids IS NULL AND dedup_keys IS NULL THEN
        RETURN QUERY SELECT 1::bigint, o.id, o.place, true, true FROM tandem.publish_one(
            topic, target.id, target.version, target.queues, at, payloads[1], keys[1], headers[1], coalesce(schema_versions[1], 1::smallint), wake) AS o; RETURN;
    END IF;
    SELECT array_agg(nextval('tandem.message_position') ORDER BY u.ord),
           array_agg(coalesce(u.id, tandem.uuid7(at)) ORDER BY u.ord) INTO places, ids
    FROM unnest(payloads, message_ids) WITH ORDINALITY AS u(body, id, ord) WHERE u.ord <= cardinality(payloads);
    owners := ids; owner_places := places;
    IF message_ids IS NOT NULL OR dedup_keys IS NOT NULL THEN
        SELECT d.owners, d.places_of, d.same INTO owners, owner_places, same
        FROM tandem.claim_message_ids(target.id, at + target.dedup_window, at, payloads, keys, ids, places, message_ids, dedup_keys) AS d;
    END IF;
    INSERT INTO tandem.message ("position", published_at, xid, message_id, topic_id, version, schema_version, key, payload, headers)
    SELECT i.place, at, pg_current_xact_id()::text::bigint, i.id, target.id, target.version, coalesce(i.schema, 1::smallint), i.key, i.body, i.header
    FROM unnest(places, ids, owner_places, keys, payloads, headers, schema_versions)
        AS i(place, id, owner, key, body, header, schema) WHERE i.place = i.owner;
    PERFORM tandem.deliver_messages(topic, at, target.queues, u.places, u.ids, u.keys, u.bodies, u.headers, u.schemas, NULL, wake)
    FROM (SELECT array_agg(v.place ORDER BY v.place) AS places, array_agg(v.id ORDER BY v.place) AS ids,
                 array_agg(v.key ORDER BY v.place) AS keys, array_agg(v.body ORDER BY v.place) AS bodies,
                 array_agg(v.header ORDER BY v.place) AS headers, array_agg(v.schema ORDER BY v.place) AS schemas
          FROM unnest(places, ids, owner_places, keys, payloads, headers, schema_versions)
              AS v(place, id, owner, key, body, header, schema) WHERE v.place = v.owner) AS u
    WHERE cardinality(target.queues) > 0 AND u.places IS NOT NULL;
    RETURN QUERY SELECT o.ord, o.id, o.place, o.place = o.mine, coalesce(o.same, true)
    FROM unnest(owners, owner_places, places, same) WITH ORDINALITY AS o(id, place, mine, same, ord);
END
$$;

CREATE FUNCTION tandem.publish_one(topic text, topic_id integer, version integer, queues text[], at timestamp with time zone, payload jsonb, key text, header jsonb, schema smallint, wake text, OUT id uuid, OUT place bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.publish_target(topic text, payloads jsonb[], OUT id integer, OUT version integer, OUT dedup_window interval, OUT queues text[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    largest bigint := (SELECT max(octet_length(p::text)) FROM unnest(payloads) AS p);
    sealed boolean;
BEGIN
    SELECT t.id, t.version, t.dedup_window, t.encrypted,
           ARRAY(SELECT g.queue FROM tandem.topic_group AS g WHERE g.topic_id = t.id AND g.version <= t.version ORDER BY g.id)
    INTO id, version, dedup_window, sealed, queues
    FROM tandem.topic AS t WHERE t.name = topic;
    IF id IS NULL THEN
        RAISE EXCEPTION 'there is no topic "%"', topic USING ERRCODE = 'undefined_object', HINT = 'Make it with: tandem topics create.';
    END IF;
    -- The caller's own login: functions with their owner's rights and SET ROLE do not change it. Superusers are members of all.
    IF pg_has_role(session_user, to_regrole('tandem_system'), 'MEMBER')
        AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user)
        AND NOT EXISTS (SELECT FROM tandem.topic_grant AS g WHERE g.principal = 'postgres:' || session_user
                        AND g.operation = 'publish' AND g.topic IN (publish_target.topic, '*')) THEN
        RAISE EXCEPTION 'login "%" may not publish to topic "%"', session_user, topic USING ERRCODE = 'insufficient_privilege',
            HINT = format('An administrator can allow it: tandem topics grant postgres:%s publish %s', session_user, topic);
    END IF;
    IF largest > 262144 THEN
        RAISE EXCEPTION 'a message of % bytes is over the limit of 262144', largest
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and publish its key.';
    END IF;
    IF sealed AND EXISTS (SELECT FROM unnest(payloads) AS p WHERE jsonb_typeof(p) <> 'object' OR NOT p ? 'tandem_sealed') THEN
        RAISE EXCEPTION 'topic "%" takes encrypted payloads only', topic
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Publish through the API or with the topic''s key.';
    END IF;
END
$$;

CREATE FUNCTION tandem.queue_eta(queue text) RETURNS TABLE(basis text, waiting bigint, waiting_exact boolean, servers double precision, mean_seconds double precision, drained_at timestamp with time zone, drained_low timestamp with time zone, drained_high timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
WITH kinds AS MATERIALIZED (
    SELECT c.max_running, substr(c.name, 6) AS kind, w.jobs FROM tandem.concurrency_limit AS c
    JOIN (SELECT 'kind:' || j.kind AS name, count(*) AS jobs FROM (
              SELECT b.job_id FROM tandem.blocked AS b
              WHERE b.queue = $1 AND EXISTS (SELECT FROM tandem.concurrency_limit AS c WHERE c.name <> 'global') LIMIT 10000) AS b
          JOIN tandem.job AS j ON j.id = b.job_id GROUP BY 1) AS w ON w.name = c.name
)
SELECT CASE WHEN q.paused_at IS NOT NULL THEN 'queue-paused' WHEN v.servers IS NULL THEN 'no-worker'
            WHEN t.mean IS NULL THEN 'no-samples' WHEN v.servers = 0 OR z.stopped THEN 'limit-is-zero' ELSE 'rates' END,
       w.jobs, w.jobs < 10000, v.servers, t.mean, c.at + b.expected * interval '1 s', c.at + b.low * interval '1 s',
       c.at + b.high * interval '1 s'
FROM (SELECT tandem.clock() AS at) AS c CROSS JOIN (
    SELECT EXISTS (SELECT FROM kinds AS k WHERE k.max_running = 0) OR EXISTS (
        SELECT FROM tandem.queue AS q JOIN tandem.concurrency_limit AS g ON g.name = 'global' AND g.max_running = 0
        WHERE q.name = $1 AND q.managed) AS stopped) AS z
LEFT JOIN LATERAL (SELECT s.mean, s.deviation, s.tries, s.busy FROM tandem.service_stats($1) AS s WHERE s.kind IS NULL) AS t ON true
CROSS JOIN LATERAL (SELECT tandem.queue_servers($1, t.busy) AS servers) AS v
LEFT JOIN tandem.queue AS q ON q.name = $1
CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
    (SELECT FROM tandem.ready AS r WHERE r.queue = $1 LIMIT 10000)
    UNION ALL (SELECT FROM tandem.blocked AS r WHERE r.queue = $1 LIMIT 10000) LIMIT 10000) AS u) AS w
LEFT JOIN LATERAL (
    SELECT x.expected, x.low, x.high FROM tandem.global_turns($1, false, v.servers) AS g CROSS JOIN LATERAL (
        SELECT b.expected, b.low, b.high FROM (
            SELECT w.jobs + coalesce(g.others / nullif(t.mean, 0), 0) AS jobs, g.servers, t.mean, t.deviation, t.tries
            UNION ALL SELECT k.jobs, least(g.servers, k.max_running), coalesce(s.mean, t.mean), coalesce(s.deviation, t.deviation), t.tries
            FROM kinds AS k LEFT JOIN tandem.service_stats($1) AS s ON s.kind = k.kind) AS u
        CROSS JOIN LATERAL tandem.eta_band(u.jobs, nullif(u.servers, 0), u.mean, u.deviation, u.tries) AS b
        ORDER BY b.expected DESC NULLS FIRST LIMIT 1) AS x
    ORDER BY x.expected NULLS LAST LIMIT 1
) AS b ON q.paused_at IS NULL AND v.servers > 0 AND t.mean > 0 AND NOT z.stopped
$_$;

CREATE FUNCTION tandem.queue_number(queue text) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ((hashtext(queue))::bigint & '4294967295'::bigint);

CREATE FUNCTION tandem.queue_servers(queue text, busy double precision) RETURNS double precision
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT CASE WHEN count(*) > 0 THEN least(greatest(coalesce(busy, 0), sum(w.concurrency::float8 / greatest(1, o.queues))),
                                         sum(w.concurrency), max(m.most)) END
FROM tandem.worker AS w CROSS JOIN (SELECT tandem.clock() AS at) AS c
LEFT JOIN LATERAL (
    SELECT count(*) AS queues FROM unnest(w.queues) AS q(name)
    WHERE q.name = $1 OR EXISTS (SELECT FROM tandem.ready AS r WHERE r.queue = q.name)
       OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.queue = q.name)) AS o ON true
LEFT JOIN LATERAL (SELECT l.max_running::float8 AS most FROM tandem.queue AS l WHERE l.name = $1 AND l.managed) AS m ON true
WHERE $1 = ANY (w.queues) AND w.stopped_at IS NULL AND w.seen_at > c.at - interval '1 minute'
$_$;

CREATE FUNCTION tandem.recheck_keys(queue_name text, key text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO tandem.touch (queue, partition_key)
    SELECT queue_name, key WHERE key IS NOT NULL
    UNION ALL SELECT DISTINCT t.queue, t.partition_key FROM tandem.turn AS t WHERE key IS NULL AND t.queue = queue_name;
    PERFORM tandem.wake_at_commit(tandem.wake_lane(queue_name));
END
$$;

CREATE FUNCTION tandem.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is not allowed', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION tandem.refuse_job(kind text, queue text, priority integer, partition_key text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.refuse_size(payload jsonb, policy jsonb, context jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.release_dependents(parents bigint[]) RETURNS TABLE(job_id bigint, queue text, doomed boolean)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.resume_key(queue_name text, key text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    DELETE FROM tandem.halted AS h WHERE h.queue = queue_name AND h.partition_key = key;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM tandem.recheck_keys(queue_name, key);
    RETURN true;
END
$$;

CREATE FUNCTION tandem.run_band(mean double precision, deviation double precision) RETURNS TABLE(expected double precision, low double precision, high double precision)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
SELECT mean, CASE WHEN mean > 0 THEN exp(ln(mean) - s2 / 2 - 1.2816 * sqrt(s2)) ELSE 0 END,
       CASE WHEN mean > 0 THEN exp(ln(mean) - s2 / 2 + 1.2816 * sqrt(s2)) ELSE 0 END
FROM (SELECT CASE WHEN mean > 0 THEN ln(1 + (deviation / mean) ^ 2) ELSE 0 END AS s2) AS a
$$;

CREATE FUNCTION tandem.service_stats(queue text) RETURNS TABLE(kind text, tries bigint, mean double precision, deviation double precision, busy double precision)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT s.kind, sum(s.tries)::bigint, sum(s.ran_ms) / sum(s.tries) / 1000,
       sqrt(greatest(0, sum(s.squares) / sum(s.tries) - (sum(s.ran_ms) / sum(s.tries)) ^ 2)) / 1000,
       sum(s.ran_ms) / 1000 / greatest(5, extract(epoch FROM max(c.at) - min(s.at))::float8 + 5)
FROM (SELECT tandem.clock() AS at) AS c
JOIN tandem.service_sample AS s ON s.queue = $1 AND s.at > c.at - interval '10 minutes' AND s.tries > 0
GROUP BY GROUPING SETS ((s.kind), ())
HAVING sum(s.tries) > 0
$_$;

CREATE FUNCTION tandem.set_limit(target text, max_running integer DEFAULT NULL::integer, weight double precision DEFAULT NULL::double precision, rate double precision DEFAULT NULL::double precision, burst integer DEFAULT NULL::integer, exempt boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_variable
DECLARE
    what text := split_part(target, ':', 1);
    name text := substr(target, strpos(target || ':', ':') + 1);
    queue_name text := split_part(name, '/', 1);
    key text := substr(name, strpos(name || '/', '/') + 1);
BEGIN
    IF what NOT IN ('global', 'kind', 'queue', 'key') OR (what = 'global') <> (name = '') OR (what = 'key' AND key = '')
       OR (what <> 'key' AND (max_running IS NULL OR num_nonnulls(weight, rate, burst, exempt) > 0)) THEN
        RAISE EXCEPTION 'no such limit: %', target USING ERRCODE = 'invalid_parameter_value',
            HINT = 'global, kind:NAME and queue:NAME take max_running; key:QUEUE/KEY also weight, rate, burst and exempt.';
    END IF;
    IF what IN ('global', 'kind') THEN
        INSERT INTO tandem.concurrency_limit AS c (name, max_running) VALUES (target, max_running)
        ON CONFLICT ON CONSTRAINT concurrency_limit_pkey DO UPDATE SET max_running = excluded.max_running;
        PERFORM tandem.recheck_keys(q.name, CASE WHEN NOT q.ordered THEN '' END) FROM tandem.queue AS q WHERE q.managed;
    ELSIF what = 'queue' THEN
        UPDATE tandem.queue AS q SET max_running = set_limit.max_running WHERE q.name = queue_name;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no queue %', queue_name USING ERRCODE = 'invalid_parameter_value';
        END IF;
        PERFORM tandem.recheck_keys(queue_name, '');
    ELSE
        INSERT INTO tandem.key AS k (queue, partition_key, max_running, weight, exempt, rate, burst)
        VALUES (queue_name, key, max_running, coalesce(weight, 1), coalesce(exempt, false), rate, burst)
        ON CONFLICT ON CONSTRAINT key_pkey DO UPDATE
        SET max_running = coalesce(set_limit.max_running, k.max_running), weight = coalesce(set_limit.weight, k.weight),
            exempt = coalesce(set_limit.exempt, k.exempt), rate = coalesce(set_limit.rate, k.rate),
            burst = coalesce(set_limit.burst, k.burst);
        PERFORM tandem.recheck_keys(queue_name, key);
    END IF;
END
$$;

CREATE FUNCTION tandem.shared_band(expected double precision, low double precision, high double precision, shared boolean) RETURNS TABLE(expected double precision, low double precision, high double precision)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT $1, CASE WHEN $4 AND $2 > 0 THEN exp(ln($1) - b.s2 / 2 - 1.2816 * sqrt(b.s2)) ELSE $2 END,
       CASE WHEN $4 AND $2 > 0 THEN exp(ln($1) - b.s2 / 2 + 1.2816 * sqrt(b.s2)) ELSE $3 END
FROM (SELECT CASE WHEN $2 > 0 THEN (ln($3 / $2) / 2.5631) ^ 2 + ln(1 + 0.4 ^ 2) END AS s2) AS b
$_$;

CREATE FUNCTION tandem.start_by(job bigint, deadline timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    told text := to_char(deadline AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
BEGIN
    IF NOT tandem.is_enqueued_here(job) THEN
        RAISE EXCEPTION 'job % was not enqueued by this transaction: it can no longer get a deadline', job
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Say it when you enqueue the job.';
    END IF;
    IF deadline IS NULL OR NOT isfinite(deadline) OR deadline > tandem.clock() + interval '367 days' THEN
        RAISE EXCEPTION 'a start deadline is at most 366 days ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- In the policy, which a claim brings along: so that claims need not look for deadlines.
    UPDATE tandem.job AS j SET policy = CASE WHEN jsonb_typeof(j.policy) = 'object' THEN j.policy ELSE '{}' END
                                        || jsonb_build_object('start_by', told) WHERE j.id = job;
    INSERT INTO tandem.start_deadline (start_by, job_id) VALUES (deadline, job);
    RETURN job;
END
$$;

CREATE FUNCTION tandem.take_rate(rate_name text, every interval, burst integer, cost integer) RETURNS TABLE(allowed boolean, at timestamp with time zone, tat timestamp with time zone)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    at := tandem.clock();
    INSERT INTO tandem.rate AS r (name, tat)
    SELECT rate_name, at + cost * every WHERE cost <= burst
    ON CONFLICT (name) DO UPDATE SET tat = greatest(r.tat, at) + cost * every
    WHERE greatest(r.tat, at) + cost * every <= at + burst * every
    RETURNING r.tat INTO take_rate.tat;
    allowed := FOUND;
    IF NOT allowed THEN
        tat := coalesce((SELECT r.tat FROM tandem.rate AS r WHERE r.name = rate_name), at);
    END IF;
    RETURN NEXT;
END
$$;

CREATE FUNCTION tandem.topic_queue(topic text, name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN CASE WHEN ((length(topic) + length(name)) <= 55) THEN ((('topic.'::text || topic) || '..'::text) || name) ELSE (("left"(((('topic.'::text || topic) || '..'::text) || name), 50) || '.'::text) || "left"(md5(((topic || '..'::text) || name)), 12)) END;

CREATE FUNCTION tandem.unread_messages(topic_id integer, first bigint, past bigint) RETURNS TABLE(group_id integer, messages bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
SELECT g.id, (
    SELECT count(*) FROM (
        SELECT r.job_id FROM tandem.ready AS r WHERE r.queue = g.queue
        UNION ALL SELECT l.job_id FROM tandem.lease AS l WHERE l.queue = g.queue
        UNION ALL SELECT s.job_id FROM tandem.scheduled AS s WHERE s.queue = g.queue
        UNION ALL SELECT b.job_id FROM tandem.blocked AS b WHERE b.queue = g.queue) AS m
    JOIN tandem.job AS j ON j.id = m.job_id
    WHERE (j.payload ->> 'position')::bigint >= first AND (j.payload ->> 'position')::bigint < past
) + (
    SELECT count(*) FROM tandem.topic_fill AS f JOIN tandem.message AS m ON m.topic_id = g.topic_id
    WHERE f.group_id = g.id AND f.finished_at IS NULL AND NOT f.history_done AND m."position" >= first AND m."position" < past
      AND m."position" > f.cursor AND m."position" <= f.to_position)
FROM tandem.topic_group AS g WHERE g.topic_id = unread_messages.topic_id
$$;

CREATE FUNCTION tandem.uuid7(at timestamp with time zone) RETURNS uuid
    LANGUAGE sql PARALLEL SAFE
    RETURN (encode(set_bit(set_bit(OVERLAY(uuid_send(gen_random_uuid()) PLACING SUBSTRING(int8send((floor((EXTRACT(epoch FROM at) * (1000)::numeric)))::bigint) FROM 3) FROM 1 FOR 6), (52)::bigint, 1), (53)::bigint, 1), 'hex'::text))::uuid;

CREATE FUNCTION tandem.wait_for(job bigint, after bigint[], on_failure text DEFAULT 'cancel'::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake(lanes integer[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_at_commit(lane integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_batch_at_commit(queues text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_lane(queue text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (hashtext(queue) & 31);

CREATE FUNCTION tandem.wake_queue_at_commit(queue text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_queues(queues text[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_ready() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_requested() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.wake_sleepers(queue text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION tandem.why_blocked(job bigint) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
SELECT string_agg(r.code || ': ' || r.words, '; ' ORDER BY r.rank) FILTER (WHERE r.holds)
FROM tandem.blocked AS b JOIN tandem.queue AS q ON q.name = b.queue AND q.managed JOIN tandem.job AS j ON j.id = b.job_id
LEFT JOIN tandem.key AS k ON k.queue = b.queue AND k.partition_key = b.partition_key
CROSS JOIN LATERAL (SELECT count(*) AS live, min(l.job_id) AS first, (
        SELECT count(*) FROM (SELECT FROM tandem.blocked AS x WHERE x.queue = b.queue AND x.partition_key = b.partition_key
                              AND (x.band > b.band OR x.band = b.band AND x.pos < b.pos) LIMIT 1000) AS x) AS ahead
    FROM tandem.lease AS l
                    WHERE l.queue = b.queue AND l.partition_key = b.partition_key AND l.kind IS NOT NULL) AS own
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.slot IS NOT NULL) AS live, count(*) AS leases, (
        SELECT sum(w.concurrency) FROM tandem.worker AS w
        WHERE b.queue = ANY (w.queues) AND w.stopped_at IS NULL AND w.seen_at > tandem.clock() - interval '1 minute') AS slots
    FROM tandem.lease AS l WHERE l.queue = b.queue) AS held
LEFT JOIN LATERAL (SELECT o.job_id FROM tandem.blocked AS o WHERE o.queue = b.queue AND o.partition_key = b.partition_key
                   AND o.lane = b.lane AND o.band = b.band AND o.pos < b.pos ORDER BY o.pos LIMIT 1) AS ahead ON true
LEFT JOIN LATERAL (SELECT t.due_at FROM tandem.turn AS t WHERE t.queue = b.queue AND t.partition_key = b.partition_key
                   AND t.lane = b.lane ORDER BY t.seq DESC LIMIT 1) AS turn ON true
LEFT JOIN tandem.halted AS h ON h.queue = b.queue AND h.partition_key = b.partition_key
LEFT JOIN tandem.concurrency_limit AS g ON g.name = 'global' AND k.exempt IS NOT TRUE
LEFT JOIN tandem.concurrency_limit AS c ON c.name = 'kind:' || j.kind
CROSS JOIN LATERAL (SELECT count(*) AS live FROM tandem.lease AS l WHERE c.name IS NOT NULL AND l.slot IS NOT NULL AND l.kind = j.kind) AS kin
CROSS JOIN LATERAL (SELECT count(*) AS live FROM tandem.lease AS l WHERE g.name IS NOT NULL AND l.slot IS NOT NULL AND NOT l.exempt) AS total
CROSS JOIN LATERAL (VALUES
    (1, h.job_id IS NOT NULL, 'key-halted', format('its key stopped behind dead letter %s', h.job_id)),
    (2, q.ordered AND b.partition_key <> '' AND coalesce(own.first, ahead.job_id) IS NOT NULL, 'key-order',
     format('job %s of its key comes first', coalesce(own.first, ahead.job_id))),
    (3, NOT q.ordered AND b.partition_key <> '' AND own.live >= coalesce(k.max_running, q.key_max_running), 'key-limit',
     format('%s of %s jobs of its key run', own.live, coalesce(k.max_running, q.key_max_running))),
    (4, turn.due_at > tandem.clock(), 'not-before', format('its key may start the next one at %s', turn.due_at)),
    (5, held.live >= q.max_running, 'queue-limit', format('%s of %s jobs of its queue run', held.live, q.max_running)),
    (6, kin.live >= c.max_running, 'kind-limit', format('%s of %s jobs of kind %s run', kin.live, c.max_running, j.kind)),
    (7, total.live >= g.max_running, 'global-limit', format('%s of %s jobs of managed queues run', total.live, g.max_running)),
    (8, NOT q.ordered AND own.ahead > 0, 'turn', format('%s jobs of its key come first', own.ahead || CASE WHEN own.ahead = 1000 THEN ' or more' ELSE '' END)),
    (9, held.slots <= held.leases, 'slots', format('its workers hold %s jobs and have %s slots', held.leases, held.slots))
) AS r(rank, holds, code, words)
WHERE b.job_id = $1
$_$;

CREATE TABLE public.agent_candidates (
    user_id text NOT NULL COLLATE pg_catalog."C",
    greeting_agent text,
    talk_candidates text[] NOT NULL,
    game_candidates text[] NOT NULL,
    friendship_level text NOT NULL COLLATE pg_catalog."C",
    event_id uuid NOT NULL,
    source_end_time timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.agent_candidates IS 'Who may talk to a user next, until expires_at; a conversation with an older end_time never replaces it';

CREATE TABLE public.agent_prompting (
    agent_id text NOT NULL COLLATE pg_catalog."C",
    agent_name text NOT NULL,
    bot_type text NOT NULL COLLATE pg_catalog."C",
    topics text[] DEFAULT '{}'::text[] NOT NULL,
    prompt_en text DEFAULT ''::text NOT NULL,
    prompt_vi text DEFAULT ''::text NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    CONSTRAINT agent_prompting_bot_type CHECK ((bot_type = ANY (ARRAY['TALK'::text, 'GREETING'::text, 'GAME_ACTIVITY'::text])))
);

COMMENT ON TABLE public.agent_prompting IS 'The agents: what they talk about and how they are prompted';

CREATE TABLE public.conversation_events (
    id uuid NOT NULL,
    conversation_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    bot_type text NOT NULL COLLATE pg_catalog."C",
    bot_id text NOT NULL,
    bot_name text NOT NULL,
    start_time timestamp with time zone NOT NULL,
    end_time timestamp with time zone NOT NULL,
    conversation_log jsonb NOT NULL,
    body_hash bytea NOT NULL,
    status text DEFAULT 'PENDING'::text NOT NULL COLLATE pg_catalog."C",
    attempt_count smallint DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone,
    job_id bigint,
    created_at timestamp with time zone NOT NULL,
    processed_at timestamp with time zone,
    friendship_score_change numeric(8,1),
    new_friendship_level text COLLATE pg_catalog."C",
    score jsonb,
    error_code text COLLATE pg_catalog."C",
    error_details text,
    CONSTRAINT conversation_events_bot_type CHECK ((bot_type = ANY (ARRAY['TALK'::text, 'GREETING'::text, 'GAME_ACTIVITY'::text]))),
    CONSTRAINT conversation_events_outcome CHECK (((status <> 'PROCESSED'::text) OR ((processed_at IS NOT NULL) AND (friendship_score_change IS NOT NULL) AND (new_friendship_level IS NOT NULL)))),
    CONSTRAINT conversation_events_status CHECK ((status = ANY (ARRAY['PENDING'::text, 'PROCESSED'::text, 'FAILED'::text]))),
    CONSTRAINT conversation_events_times CHECK ((end_time >= start_time)),
    CONSTRAINT conversation_events_waits CHECK (((status <> 'PENDING'::text) OR (next_attempt_at IS NOT NULL)))
);

COMMENT ON TABLE public.conversation_events IS 'One row per ended conversation: what was said, and what became of it';

COMMENT ON COLUMN public.conversation_events.next_attempt_at IS 'While PENDING: when a retry is due, or from when on the fallback may look whether the job is still there';

COMMENT ON COLUMN public.conversation_events.score IS 'What the log gave: turns, questions, emotion, topics, parts of the change';

CREATE VIEW tandem.job_status AS
 SELECT m.job_id,
    j.kind,
    m.queue,
    'PENDING'::text AS status,
    'nothing'::text AS waiting_for,
    m.attempt,
    m.crashes,
    m.priority,
    m.partition_key,
    m.ready_at AS next_attempt_at,
    NULL::uuid AS worker,
    NULL::timestamp with time zone AS started_at,
    NULL::timestamp with time zone AS expires_at,
    NULL::timestamp with time zone AS finished_at,
    NULL::text AS error_class,
    NULL::text AS reason,
    j.created_at,
    j.event_id
   FROM (tandem.ready m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
UNION ALL
 SELECT m.job_id,
    j.kind,
    m.queue,
    'PENDING'::text AS status,
    'time'::text AS waiting_for,
    m.attempt,
    m.crashes,
    m.priority,
    m.partition_key,
    m.next_attempt_at,
    NULL::uuid AS worker,
    NULL::timestamp with time zone AS started_at,
    NULL::timestamp with time zone AS expires_at,
    NULL::timestamp with time zone AS finished_at,
    NULL::text AS error_class,
    NULL::text AS reason,
    j.created_at,
    j.event_id
   FROM (tandem.scheduled m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
UNION ALL
 SELECT m.job_id,
    j.kind,
    m.queue,
    'PENDING'::text AS status,
    m.waiting_for,
    m.attempt,
    m.crashes,
    m.priority,
    NULLIF(m.partition_key, ''::text) AS partition_key,
    COALESCE(m.not_before, m.blocked_at) AS next_attempt_at,
    NULL::uuid AS worker,
    NULL::timestamp with time zone AS started_at,
    NULL::timestamp with time zone AS expires_at,
    NULL::timestamp with time zone AS finished_at,
    NULL::text AS error_class,
    NULL::text AS reason,
    j.created_at,
    j.event_id
   FROM (tandem.blocked m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
UNION ALL
 SELECT m.job_id,
    j.kind,
    m.queue,
    'PENDING'::text AS status,
    'job'::text AS waiting_for,
    (0)::smallint AS attempt,
    (0)::smallint AS crashes,
    m.priority,
    m.partition_key,
    m.held_at AS next_attempt_at,
    NULL::uuid AS worker,
    NULL::timestamp with time zone AS started_at,
    NULL::timestamp with time zone AS expires_at,
    NULL::timestamp with time zone AS finished_at,
    NULL::text AS error_class,
    NULL::text AS reason,
    j.created_at,
    j.event_id
   FROM (tandem.dependent m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
UNION ALL
 SELECT m.job_id,
    j.kind,
    m.queue,
    'RUNNING'::text AS status,
    NULL::text AS waiting_for,
    m.attempt,
    m.crashes,
    m.priority,
    m.partition_key,
    NULL::timestamp with time zone AS next_attempt_at,
    m.worker,
    m.claimed_at AS started_at,
    m.expires_at,
    NULL::timestamp with time zone AS finished_at,
    NULL::text AS error_class,
    NULL::text AS reason,
    j.created_at,
    j.event_id
   FROM (tandem.lease m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
UNION ALL
 SELECT m.job_id,
    j.kind,
    j.queue,
    'SUCCEEDED'::text AS status,
    NULL::text AS waiting_for,
    m.attempt,
    NULL::smallint AS crashes,
    j.priority,
    j.partition_key,
    NULL::timestamp with time zone AS next_attempt_at,
    m.worker,
    m.started_at,
    NULL::timestamp with time zone AS expires_at,
    m.finished_at,
    m.error_class,
    m.reason,
    j.created_at,
    j.event_id
   FROM (tandem.done m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
  WHERE (m.outcome = 'SUCCEEDED'::text)
UNION ALL
 SELECT m.job_id,
    j.kind,
    j.queue,
    'DEAD'::text AS status,
    NULL::text AS waiting_for,
    m.attempt,
    NULL::smallint AS crashes,
    j.priority,
    j.partition_key,
    NULL::timestamp with time zone AS next_attempt_at,
    m.worker,
    m.started_at,
    NULL::timestamp with time zone AS expires_at,
    m.finished_at,
    m.error_class,
    m.reason,
    j.created_at,
    j.event_id
   FROM (tandem.done m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
  WHERE (m.outcome = 'DEAD'::text)
UNION ALL
 SELECT m.job_id,
    j.kind,
    j.queue,
    'CANCELLED'::text AS status,
    NULL::text AS waiting_for,
    m.attempt,
    NULL::smallint AS crashes,
    j.priority,
    j.partition_key,
    NULL::timestamp with time zone AS next_attempt_at,
    m.worker,
    m.started_at,
    NULL::timestamp with time zone AS expires_at,
    m.finished_at,
    m.error_class,
    m.reason,
    j.created_at,
    j.event_id
   FROM (tandem.done m
     LEFT JOIN tandem.job j ON ((j.id = m.job_id)))
  WHERE (m.outcome = 'CANCELLED'::text);

COMMENT ON VIEW tandem.job_status IS 'Where every job stands; a filter on job_id or status reads only what it needs';

CREATE VIEW public.conversation_event_status AS
 SELECT e.id AS event_id,
    e.conversation_id,
    e.user_id,
    e.bot_type,
    e.bot_id,
    e.bot_name,
    e.start_time,
    e.end_time,
        CASE
            WHEN ((e.status = 'PENDING'::text) AND (j.status = 'RUNNING'::text)) THEN 'PROCESSING'::text
            ELSE e.status
        END AS status,
    e.attempt_count,
    e.next_attempt_at,
    e.created_at,
    e.processed_at,
    e.friendship_score_change,
    e.new_friendship_level,
    e.score,
    e.error_code,
    e.error_details,
    e.job_id,
    j.status AS job_status,
    j.waiting_for AS job_waiting_for,
    j.attempt AS job_attempt,
    j.next_attempt_at AS job_next_attempt_at,
    j.started_at AS job_started_at,
    j.expires_at AS job_lease_expires_at,
    j.finished_at AS job_finished_at,
    j.created_at AS job_created_at
   FROM (public.conversation_events e
     LEFT JOIN LATERAL ( SELECT s.status,
            s.waiting_for,
            s.attempt,
            s.next_attempt_at,
            s.started_at,
            s.expires_at,
            s.finished_at,
            s.created_at
           FROM tandem.job_status s
          WHERE (s.job_id = e.job_id)
         OFFSET 0) j ON (true));

COMMENT ON VIEW public.conversation_event_status IS 'Events with the state of their jobs; PROCESSING is derived from the job''s lease and never stored';

CREATE TABLE public.customer_audit (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL COLLATE pg_catalog."C",
    target text NOT NULL,
    before jsonb,
    after jsonb
);

COMMENT ON TABLE public.customer_audit IS 'Append-only: who changed what of tiers, customers, prices, limits and capacity, before and after';

ALTER TABLE public.customer_audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.customer_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.customer_capacity (
    single boolean DEFAULT true NOT NULL,
    capacity integer NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT customer_capacity_sane CHECK (((capacity >= 0) AND (capacity <= 10000000))),
    CONSTRAINT customer_capacity_single CHECK (single)
);

COMMENT ON TABLE public.customer_capacity IS 'Running + waiting jobs (VIP not counted) from which the system is full. Locked by those whose tier may be refused';

CREATE TABLE public.customer_invoices (
    customer_id text NOT NULL COLLATE pg_catalog."C",
    month date NOT NULL,
    number bigint NOT NULL,
    currency text NOT NULL COLLATE pg_catalog."C",
    total numeric(14,2) NOT NULL,
    document jsonb NOT NULL,
    issued_at timestamp with time zone NOT NULL,
    CONSTRAINT customer_invoices_month CHECK ((EXTRACT(day FROM month) = (1)::numeric))
);

COMMENT ON TABLE public.customer_invoices IS 'Issued once per customer and month, after the month''s end in the customer''s time zone';

ALTER TABLE public.customer_invoices ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.customer_invoices_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.customer_jobs (
    job_id bigint NOT NULL,
    customer_id text NOT NULL COLLATE pg_catalog."C",
    tier text NOT NULL COLLATE pg_catalog."C",
    workflow text NOT NULL COLLATE pg_catalog."C",
    counted boolean NOT NULL,
    overage boolean NOT NULL,
    importance text NOT NULL COLLATE pg_catalog."C",
    revenue boolean NOT NULL,
    light boolean NOT NULL,
    deadline timestamp with time zone,
    wait_until timestamp with time zone,
    priority double precision NOT NULL,
    notify boolean NOT NULL,
    idempotency_key text COLLATE pg_catalog."C",
    body_hash bytea NOT NULL,
    day date NOT NULL,
    accepted_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    outcome text COLLATE pg_catalog."C",
    error_class text COLLATE pg_catalog."C",
    CONSTRAINT customer_jobs_end CHECK (((outcome IS NULL) = (ended_at IS NULL))),
    CONSTRAINT customer_jobs_importance CHECK ((importance = ANY (ARRAY['normal'::text, 'urgent'::text, 'critical'::text]))),
    CONSTRAINT customer_jobs_key CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 255))),
    CONSTRAINT customer_jobs_outcome CHECK ((outcome = ANY (ARRAY['SUCCEEDED'::text, 'DEAD'::text, 'CANCELLED'::text])))
)
WITH (fillfactor='80');

COMMENT ON TABLE public.customer_jobs IS 'One row per accepted job: whose it is and how it ended; written in the transactions that accept and end the job';

COMMENT ON COLUMN public.customer_jobs.counted IS 'Whether it counts against the capacity (VIP does not)';

CREATE TABLE public.customer_notifications (
    id uuid NOT NULL,
    customer_id text NOT NULL COLLATE pg_catalog."C",
    topic text NOT NULL COLLATE pg_catalog."C",
    once text NOT NULL COLLATE pg_catalog."C",
    job_id bigint,
    channel text NOT NULL COLLATE pg_catalog."C",
    facts jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    failed_at timestamp with time zone,
    CONSTRAINT customer_notifications_channel CHECK ((channel = ANY (ARRAY['none'::text, 'mail'::text, 'webhook'::text])))
);

COMMENT ON TABLE public.customer_notifications IS 'What a customer is told; `once` says what it is about, so that nothing is told twice. Sent by jobs of kind customers.notify';

CREATE TABLE public.customer_price_lists (
    tier text NOT NULL COLLATE pg_catalog."C",
    version integer NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    currency text NOT NULL COLLATE pg_catalog."C",
    monthly_fee numeric(14,2) NOT NULL,
    prices jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT customer_price_lists_currency CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT customer_price_lists_fee CHECK ((monthly_fee >= (0)::numeric)),
    CONSTRAINT customer_price_lists_version CHECK ((version >= 1))
);

COMMENT ON TABLE public.customer_price_lists IS 'Versioned, never changed: the list of a tier with the latest valid_from before a use prices it';

COMMENT ON COLUMN public.customer_price_lists.prices IS '{"job": [{"up_to": 10000, "price": "0.010"}, {"up_to": null, "price": "0.008"}], "run_ms": [...]}: steps by units of the month';

CREATE TABLE public.customer_quota_days (
    customer_id text NOT NULL COLLATE pg_catalog."C",
    day date NOT NULL,
    accepted integer NOT NULL,
    overage integer NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.customer_quota_days IS 'Accepted jobs of a customer''s day: changed only in the transaction that writes the job, so it cannot drift from them';

CREATE TABLE public.customer_tier_history (
    customer_id text NOT NULL COLLATE pg_catalog."C",
    since timestamp with time zone NOT NULL,
    tier text NOT NULL COLLATE pg_catalog."C"
);

COMMENT ON TABLE public.customer_tier_history IS 'Append-only: since when a customer has which tier; the fixed fee of a month needs it';

CREATE TABLE public.customer_tiers (
    tier text NOT NULL COLLATE pg_catalog."C",
    rank integer NOT NULL,
    rate_per_minute integer NOT NULL,
    daily_quota integer,
    max_running integer NOT NULL,
    weight double precision NOT NULL,
    bypasses_global boolean NOT NULL,
    when_full text NOT NULL COLLATE pg_catalog."C",
    longest_wait interval,
    ageing_every interval NOT NULL,
    base_priority double precision NOT NULL,
    billing text NOT NULL COLLATE pg_catalog."C",
    overage text NOT NULL COLLATE pg_catalog."C",
    tracking text NOT NULL COLLATE pg_catalog."C",
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT customer_tiers_ageing CHECK ((ageing_every > '00:00:00'::interval)),
    CONSTRAINT customer_tiers_base CHECK (((base_priority > (0)::double precision) AND (base_priority <= (1000000)::double precision))),
    CONSTRAINT customer_tiers_billing CHECK ((billing = ANY (ARRAY['fixed-usage'::text, 'tiered'::text, 'fixed-payg'::text, 'free'::text]))),
    CONSTRAINT customer_tiers_full CHECK ((when_full = ANY (ARRAY['take'::text, 'wait'::text, 'refuse'::text]))),
    CONSTRAINT customer_tiers_name CHECK ((tier ~ '^[a-z][a-z0-9_-]{0,31}$'::text)),
    CONSTRAINT customer_tiers_overage CHECK ((overage = ANY (ARRAY['discounted'::text, 'standard'::text, 'blocked'::text]))),
    CONSTRAINT customer_tiers_quota CHECK ((daily_quota >= 0)),
    CONSTRAINT customer_tiers_rate CHECK (((rate_per_minute >= 1) AND (rate_per_minute <= 1000000))),
    CONSTRAINT customer_tiers_running CHECK (((max_running >= 0) AND (max_running <= 100000))),
    CONSTRAINT customer_tiers_tracking CHECK ((tracking = ANY (ARRAY['full'::text, 'monthly'::text, 'basic'::text, 'limited'::text]))),
    CONSTRAINT customer_tiers_wait CHECK ((longest_wait > '00:00:00'::interval)),
    CONSTRAINT customer_tiers_weight CHECK (((weight > (0)::double precision) AND (weight <= (1000)::double precision)))
);

COMMENT ON TABLE public.customer_tiers IS 'What each tier may do and how it pays; changed at run time, effective with the next request';

COMMENT ON COLUMN public.customer_tiers.daily_quota IS 'Accepted jobs per day of the customer''s time zone; NULL: unlimited';

COMMENT ON COLUMN public.customer_tiers.ageing_every IS 'The priority doubles each time a job has waited this long';

CREATE TABLE public.customer_usage (
    id bigint NOT NULL,
    customer_id text NOT NULL COLLATE pg_catalog."C",
    job_id bigint NOT NULL,
    token bigint NOT NULL,
    what text NOT NULL COLLATE pg_catalog."C",
    attempt smallint NOT NULL,
    tier text NOT NULL COLLATE pg_catalog."C",
    workflow text NOT NULL COLLATE pg_catalog."C",
    quantity bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    CONSTRAINT customer_usage_quantity CHECK ((quantity >= 0)),
    CONSTRAINT customer_usage_what CHECK ((what = ANY (ARRAY['job'::text, 'overage'::text, 'run_ms'::text, 'failed_ms'::text])))
);

COMMENT ON TABLE public.customer_usage IS 'The ledger, append-only: what was used, each accepted job and each attempt exactly once';

COMMENT ON COLUMN public.customer_usage.token IS 'The attempt''s lease token, 0 for the acceptance: attempt numbers come again after a rescue and a redrive, tokens do not';

ALTER TABLE public.customer_usage ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.customer_usage_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.customers (
    customer_id text NOT NULL COLLATE pg_catalog."C",
    tier text NOT NULL COLLATE pg_catalog."C",
    name text DEFAULT ''::text NOT NULL,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    language text DEFAULT 'en'::text NOT NULL COLLATE pg_catalog."C",
    notify_by text DEFAULT 'none'::text NOT NULL COLLATE pg_catalog."C",
    email text,
    webhook_url text,
    webhook_secret text,
    max_running integer,
    rate_per_minute integer,
    daily_quota integer,
    weight double precision,
    recent_succeeded integer DEFAULT 0 NOT NULL,
    recent_ended integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT customers_address CHECK (((notify_by <> 'mail'::text) OR (email IS NOT NULL))),
    CONSTRAINT customers_channel CHECK ((notify_by = ANY (ARRAY['none'::text, 'mail'::text, 'webhook'::text]))),
    CONSTRAINT customers_hook CHECK (((notify_by <> 'webhook'::text) OR ((webhook_url IS NOT NULL) AND (webhook_secret IS NOT NULL)))),
    CONSTRAINT customers_id CHECK (((length(customer_id) >= 1) AND (length(customer_id) <= 128))),
    CONSTRAINT customers_language CHECK ((language = ANY (ARRAY['en'::text, 'vi'::text]))),
    CONSTRAINT customers_quota CHECK ((daily_quota >= 0)),
    CONSTRAINT customers_rate CHECK (((rate_per_minute >= 1) AND (rate_per_minute <= 1000000))),
    CONSTRAINT customers_running CHECK (((max_running >= 0) AND (max_running <= 100000))),
    CONSTRAINT customers_weight CHECK (((weight > (0)::double precision) AND (weight <= (1000)::double precision)))
)
WITH (fillfactor='80');

COMMENT ON TABLE public.customers IS 'Who sends jobs. max_running, rate_per_minute, daily_quota and weight override the tier''s';

COMMENT ON COLUMN public.customers.recent_ended IS 'Jobs that ended within 30 days, and how many of them succeeded: refreshed periodically';

CREATE TABLE public.friendship_agent_mapping (
    friendship_level text NOT NULL COLLATE pg_catalog."C",
    agent_id text NOT NULL COLLATE pg_catalog."C",
    weight double precision DEFAULT 1 NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    CONSTRAINT friendship_agent_mapping_level CHECK ((friendship_level = ANY (ARRAY['PHASE1_STRANGER'::text, 'PHASE2_ACQUAINTANCE'::text, 'PHASE3_FRIEND'::text]))),
    CONSTRAINT friendship_agent_mapping_weight CHECK ((weight > (0)::double precision))
);

COMMENT ON TABLE public.friendship_agent_mapping IS 'Which agents may be chosen at which friendship level, and how gladly';

CREATE TABLE public.friendship_status (
    user_id text NOT NULL COLLATE pg_catalog."C",
    friendship_score numeric(14,1) DEFAULT 0 NOT NULL,
    friendship_level text DEFAULT 'PHASE1_STRANGER'::text NOT NULL COLLATE pg_catalog."C",
    conversations integer DEFAULT 0 NOT NULL,
    topic_metrics jsonb DEFAULT '{}'::jsonb NOT NULL,
    recent_agents jsonb DEFAULT '[]'::jsonb NOT NULL,
    last_conversation_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT friendship_status_level CHECK ((friendship_level = ANY (ARRAY['PHASE1_STRANGER'::text, 'PHASE2_ACQUAINTANCE'::text, 'PHASE3_FRIEND'::text])))
)
WITH (fillfactor='70');

COMMENT ON TABLE public.friendship_status IS 'One row per user: the sum of all processed conversations, in whatever order they came';

COMMENT ON COLUMN public.friendship_status.recent_agents IS 'The agents of the last conversations by end time, newest first';

CREATE TABLE public.workflow_health (
    workflow text NOT NULL COLLATE pg_catalog."C",
    asked_at timestamp with time zone NOT NULL,
    job_id bigint NOT NULL,
    answered_at timestamp with time zone,
    seconds double precision,
    failed_at timestamp with time zone,
    error text
)
WITH (fillfactor='50');

COMMENT ON TABLE public.workflow_health IS 'The last canary job of each workflow: when it was sent, when it answered, what went wrong';

CREATE TABLE tandem.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE tandem.api_key (
    id text NOT NULL COLLATE pg_catalog."C",
    secret_hash bytea NOT NULL,
    name text NOT NULL,
    roles text[] NOT NULL,
    scopes text[] DEFAULT '{}'::text[] NOT NULL,
    claims jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by text NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    revoked_by text,
    last_used_at timestamp with time zone,
    CONSTRAINT api_key_claims CHECK ((jsonb_typeof(claims) = 'object'::text)),
    CONSTRAINT api_key_hash CHECK ((octet_length(secret_hash) = 32)),
    CONSTRAINT api_key_id CHECK ((id ~ '^[a-z0-9]{12}$'::text)),
    CONSTRAINT api_key_name CHECK (((length(name) >= 1) AND (length(name) <= 64))),
    CONSTRAINT api_key_roles CHECK ((cardinality(roles) > 0))
);

COMMENT ON TABLE tandem.api_key IS 'Keys to the HTTP API: the SHA-256 of each secret, never the secret';

CREATE TABLE tandem.attempt (
    job_id bigint NOT NULL,
    attempt smallint NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    verdict text NOT NULL COLLATE pg_catalog."C",
    error_class text NOT NULL COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    message text,
    traceback text,
    CONSTRAINT attempt_verdict CHECK ((verdict = ANY (ARRAY['RETRY'::text, 'DEAD'::text, 'CANCELLED'::text, 'RESCUED'::text])))
)
PARTITION BY RANGE (job_id);

COMMENT ON TABLE tandem.attempt IS 'Append-only: one row for each try that failed';

CREATE TABLE tandem.attempt_0 (
    job_id bigint CONSTRAINT attempt_job_id_not_null NOT NULL,
    attempt smallint CONSTRAINT attempt_attempt_not_null NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone CONSTRAINT attempt_finished_at_not_null NOT NULL,
    verdict text CONSTRAINT attempt_verdict_not_null NOT NULL COLLATE pg_catalog."C",
    error_class text CONSTRAINT attempt_error_class_not_null NOT NULL COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    message text,
    traceback text,
    CONSTRAINT attempt_verdict CHECK ((verdict = ANY (ARRAY['RETRY'::text, 'DEAD'::text, 'CANCELLED'::text, 'RESCUED'::text])))
);

CREATE TABLE tandem.attempt_1 (
    job_id bigint CONSTRAINT attempt_job_id_not_null NOT NULL,
    attempt smallint CONSTRAINT attempt_attempt_not_null NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone CONSTRAINT attempt_finished_at_not_null NOT NULL,
    verdict text CONSTRAINT attempt_verdict_not_null NOT NULL COLLATE pg_catalog."C",
    error_class text CONSTRAINT attempt_error_class_not_null NOT NULL COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    message text,
    traceback text,
    CONSTRAINT attempt_verdict CHECK ((verdict = ANY (ARRAY['RETRY'::text, 'DEAD'::text, 'CANCELLED'::text, 'RESCUED'::text])))
);

CREATE TABLE tandem.attempt_kept (
    job_id bigint CONSTRAINT attempt_job_id_not_null NOT NULL,
    attempt smallint CONSTRAINT attempt_attempt_not_null NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone CONSTRAINT attempt_finished_at_not_null NOT NULL,
    verdict text CONSTRAINT attempt_verdict_not_null NOT NULL COLLATE pg_catalog."C",
    error_class text CONSTRAINT attempt_error_class_not_null NOT NULL COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    message text,
    traceback text,
    CONSTRAINT attempt_verdict CHECK ((verdict = ANY (ARRAY['RETRY'::text, 'DEAD'::text, 'CANCELLED'::text, 'RESCUED'::text])))
);

CREATE TABLE tandem.audit_chain (
    seq bigint NOT NULL,
    entry_id bigint NOT NULL,
    hash bytea NOT NULL
);

COMMENT ON TABLE tandem.audit_chain IS 'The sealed order of the entries: each hash covers the one before it';

CREATE TABLE tandem.audit_entry (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    xid xid8 NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    topic text,
    group_name text,
    items integer DEFAULT 1 NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL
);

COMMENT ON TABLE tandem.audit_entry IS 'Append-only: who did what to which messages, one row for each batch';

ALTER TABLE tandem.audit_entry ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tandem.audit_entry_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tandem.audit_head (
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    xid_end xid8 NOT NULL,
    sealed_at timestamp with time zone NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL
);

COMMENT ON TABLE tandem.audit_head IS 'The signed end of each sealed batch; the same lines lie in a file outside the database';

CREATE TABLE tandem.cancel_intent (
    job_id bigint NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    requested_by text,
    reason text
);

COMMENT ON TABLE tandem.cancel_intent IS 'Cancel requests: checked by claim, retry, rescue and promotion';

CREATE TABLE tandem.concurrency_limit (
    name text NOT NULL COLLATE pg_catalog."C",
    max_running integer NOT NULL,
    CONSTRAINT concurrency_limit_max_running CHECK ((max_running >= 0)),
    CONSTRAINT concurrency_limit_name CHECK (((name = 'global'::text) OR (name ~ '^kind:[a-z][a-z0-9_.-]{0,62}$'::text)))
);

COMMENT ON TABLE tandem.concurrency_limit IS 'Limits over all managed queues: global and of kinds; their rows are locked by admission';

CREATE TABLE tandem.delivery_end (
    xid xid8 NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    action text NOT NULL COLLATE pg_catalog."C",
    worker uuid,
    attempt smallint NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone NOT NULL,
    job_ids bigint[] NOT NULL,
    CONSTRAINT delivery_end_action CHECK ((action = ANY (ARRAY['ack'::text, 'nack'::text, 'dead'::text, 'cancel'::text, 'rescue'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.delivery_end IS 'How tries of deliveries by workers ended, until the sweeper makes entries of the audit log of them';

CREATE TABLE tandem.dependency (
    after_job bigint NOT NULL,
    job_id bigint NOT NULL,
    CONSTRAINT dependency_order CHECK ((after_job < job_id))
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.dependency IS 'What a dependent still waits for: one row per job that has not ended well yet';

CREATE TABLE tandem.done_0 (
    job_id bigint CONSTRAINT done_job_id_not_null NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone CONSTRAINT done_finished_at_not_null NOT NULL,
    attempt smallint CONSTRAINT done_attempt_not_null NOT NULL,
    outcome text CONSTRAINT done_outcome_not_null NOT NULL COLLATE pg_catalog."C",
    error_class text COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    reason text,
    result jsonb,
    result_expires_at timestamp with time zone,
    CONSTRAINT done_outcome CHECK ((outcome = ANY (ARRAY['SUCCEEDED'::text, 'DEAD'::text, 'CANCELLED'::text])))
);

CREATE TABLE tandem.done_1 (
    job_id bigint CONSTRAINT done_job_id_not_null NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone CONSTRAINT done_finished_at_not_null NOT NULL,
    attempt smallint CONSTRAINT done_attempt_not_null NOT NULL,
    outcome text CONSTRAINT done_outcome_not_null NOT NULL COLLATE pg_catalog."C",
    error_class text COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    reason text,
    result jsonb,
    result_expires_at timestamp with time zone,
    CONSTRAINT done_outcome CHECK ((outcome = ANY (ARRAY['SUCCEEDED'::text, 'DEAD'::text, 'CANCELLED'::text])))
);

CREATE TABLE tandem.done_kept (
    job_id bigint CONSTRAINT done_job_id_not_null NOT NULL,
    token bigint,
    worker uuid,
    started_at timestamp with time zone,
    finished_at timestamp with time zone CONSTRAINT done_finished_at_not_null NOT NULL,
    attempt smallint CONSTRAINT done_attempt_not_null NOT NULL,
    outcome text CONSTRAINT done_outcome_not_null NOT NULL COLLATE pg_catalog."C",
    error_class text COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C",
    reason text,
    result jsonb,
    result_expires_at timestamp with time zone,
    CONSTRAINT done_outcome CHECK ((outcome = ANY (ARRAY['SUCCEEDED'::text, 'DEAD'::text, 'CANCELLED'::text])))
);

CREATE TABLE tandem.halted (
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text NOT NULL COLLATE pg_catalog."C",
    job_id bigint NOT NULL,
    halted_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE tandem.halted IS 'Keys of ordered queues that stopped behind a dead letter, until it is redriven, purged or passed over';

CREATE TABLE tandem.job_0 (
    id bigint CONSTRAINT job_id_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT job_created_at_not_null NOT NULL,
    event_id uuid,
    priority smallint CONSTRAINT job_priority_not_null NOT NULL,
    queue text CONSTRAINT job_queue_not_null NOT NULL COLLATE pg_catalog."C",
    kind text CONSTRAINT job_kind_not_null NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C",
    payload jsonb CONSTRAINT job_payload_not_null NOT NULL,
    policy jsonb,
    context jsonb
);

COMMENT ON COLUMN tandem.job_0.policy IS 'this job''s own max_attempts, timeout_s, ... over those of its kind';

COMMENT ON COLUMN tandem.job_0.context IS 'request_id, traceparent and the like: carried along, never interpreted by the queue';

CREATE TABLE tandem.job_1 (
    id bigint CONSTRAINT job_id_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT job_created_at_not_null NOT NULL,
    event_id uuid,
    priority smallint CONSTRAINT job_priority_not_null NOT NULL,
    queue text CONSTRAINT job_queue_not_null NOT NULL COLLATE pg_catalog."C",
    kind text CONSTRAINT job_kind_not_null NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C",
    payload jsonb CONSTRAINT job_payload_not_null NOT NULL,
    policy jsonb,
    context jsonb
);

COMMENT ON COLUMN tandem.job_1.policy IS 'this job''s own max_attempts, timeout_s, ... over those of its kind';

COMMENT ON COLUMN tandem.job_1.context IS 'request_id, traceparent and the like: carried along, never interpreted by the queue';

CREATE TABLE tandem.job_kept (
    id bigint CONSTRAINT job_id_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT job_created_at_not_null NOT NULL,
    event_id uuid,
    priority smallint CONSTRAINT job_priority_not_null NOT NULL,
    queue text CONSTRAINT job_queue_not_null NOT NULL COLLATE pg_catalog."C",
    kind text CONSTRAINT job_kind_not_null NOT NULL COLLATE pg_catalog."C",
    partition_key text COLLATE pg_catalog."C",
    payload jsonb CONSTRAINT job_payload_not_null NOT NULL,
    policy jsonb,
    context jsonb
);

CREATE TABLE tandem.kind (
    name text NOT NULL COLLATE pg_catalog."C",
    max_attempts smallint NOT NULL,
    crash_limit smallint NOT NULL,
    hooked boolean NOT NULL,
    declared_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

COMMENT ON TABLE tandem.kind IS 'Kinds as the workers declare them; a sweeper that lacks a hooked kind''s hook leaves its jobs alone';

CREATE TABLE tandem.lane_floor (
    queue text NOT NULL COLLATE pg_catalog."C",
    priority smallint NOT NULL,
    floor bigint NOT NULL
);

COMMENT ON TABLE tandem.lane_floor IS 'Safe floors, append-only: the highest row of a lane counts; nothing below it can be ready any more';

CREATE TABLE tandem.leader (
    name text NOT NULL COLLATE pg_catalog."C",
    holder uuid NOT NULL,
    token bigint NOT NULL,
    acquired_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE tandem.leader IS 'Leadership is a leased row: an advisory lock would also be granted on a standby';

CREATE TABLE tandem.message (
    "position" bigint NOT NULL,
    published_at timestamp with time zone NOT NULL,
    xid bigint NOT NULL,
    message_id uuid NOT NULL,
    topic_id integer NOT NULL,
    version integer NOT NULL,
    schema_version smallint DEFAULT 1 NOT NULL,
    key text COLLATE pg_catalog."C",
    payload jsonb NOT NULL,
    headers jsonb,
    CONSTRAINT message_key CHECK (((length(key) >= 1) AND (length(key) <= 255)))
)
PARTITION BY LIST (topic_id);

COMMENT ON TABLE tandem.message IS 'The log: append-only, partitioned by topic and then by ranges of positions, dropped by retention';

COMMENT ON COLUMN tandem.message.xid IS 'the publisher''s transaction (an xid8): tells which messages a snapshot has not seen';

COMMENT ON COLUMN tandem.message.version IS 'the topic''s version as its publisher saw it: which groups it delivered to';

CREATE TABLE tandem.message_dedup (
    topic_id integer NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    message_id uuid NOT NULL,
    "position" bigint NOT NULL,
    body_hash bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT message_dedup_id CHECK (((length(id) >= 1) AND (length(id) <= 255)))
);

COMMENT ON TABLE tandem.message_dedup IS 'Message ids and idempotency keys that publishers gave, for the topic''s window';

CREATE SEQUENCE tandem.message_position
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE tandem.progress (
    job_id bigint NOT NULL,
    attempt smallint NOT NULL,
    percent real NOT NULL,
    stage text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT progress_percent CHECK (((percent >= (0)::double precision) AND (percent <= (100)::double precision)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.progress IS 'How far a try says that it is: written at most once a second by who holds the lease';

CREATE TABLE tandem.rate (
    name text NOT NULL COLLATE pg_catalog."C",
    tat timestamp with time zone NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.rate IS 'Rates of requests (GCRA): the theoretical arrival time of each name';

CREATE TABLE tandem.schedule (
    name text NOT NULL COLLATE pg_catalog."C",
    cron text NOT NULL,
    timezone text DEFAULT 'UTC'::text NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    queue text DEFAULT 'default'::text NOT NULL COLLATE pg_catalog."C",
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    priority smallint DEFAULT 5 NOT NULL,
    partition_key text COLLATE pg_catalog."C",
    missed text DEFAULT 'coalesce'::text NOT NULL,
    overlap boolean DEFAULT true NOT NULL,
    source text DEFAULT 'operator'::text NOT NULL,
    paused_at timestamp with time zone,
    paused_by text,
    next_tick_at timestamp with time zone NOT NULL,
    last_tick_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT schedule_kind CHECK ((kind ~ '^[a-z][a-z0-9_.-]{0,62}$'::text)),
    CONSTRAINT schedule_missed CHECK ((missed = ANY (ARRAY['coalesce'::text, 'catch_up'::text]))),
    CONSTRAINT schedule_name CHECK ((name ~ '^[a-z][a-z0-9_.-]{0,62}$'::text)),
    CONSTRAINT schedule_priority CHECK (((priority >= 0) AND (priority <= 9))),
    CONSTRAINT schedule_queue CHECK ((queue ~ '^[a-z][a-z0-9_.-]{0,62}$'::text)),
    CONSTRAINT schedule_source CHECK ((source = ANY (ARRAY['code'::text, 'operator'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE tandem.schedule IS 'Cron entries; whoever moves next_tick_at on makes the jobs of the ticks it passes';

CREATE TABLE tandem.schedule_tick (
    schedule text NOT NULL COLLATE pg_catalog."C",
    tick timestamp with time zone NOT NULL,
    job_id bigint NOT NULL,
    fired_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE tandem.schedule_tick IS 'One row per tick that fired, and the job it made';

CREATE TABLE tandem.service_sample (
    at timestamp with time zone NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    tries bigint NOT NULL,
    ran_ms double precision NOT NULL,
    squares double precision NOT NULL
);

COMMENT ON TABLE tandem.service_sample IS 'How long tries ran: sums of a few seconds of one worker, appended; for the ETA';

CREATE TABLE tandem.start_deadline (
    start_by timestamp with time zone NOT NULL,
    job_id bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.start_deadline IS 'Jobs that expire if they have not started by then; a row lives until that time';

CREATE TABLE tandem.topic (
    id integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    version integer DEFAULT 0 NOT NULL,
    retention interval DEFAULT '7 days'::interval NOT NULL,
    dedup_window interval DEFAULT '1 day'::interval NOT NULL,
    drop_unread boolean DEFAULT false NOT NULL,
    encrypted boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by text,
    CONSTRAINT topic_dedup_window CHECK ((dedup_window > '00:00:00'::interval)),
    CONSTRAINT topic_name CHECK (((name ~ '^[a-z][a-z0-9_.-]{0,62}$'::text) AND (name <> 'dlq'::text))),
    CONSTRAINT topic_retention CHECK ((retention > '00:00:00'::interval))
);

COMMENT ON TABLE tandem.topic IS 'Topics and their rules; version counts the groups that were ever made, see message.version';

COMMENT ON COLUMN tandem.topic.drop_unread IS 'retention drops messages that a group has not handled yet, counted in topic_loss';

CREATE TABLE tandem.topic_consumer (
    group_id integer NOT NULL,
    name text NOT NULL,
    seen_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE tandem.topic_consumer IS 'Programs that consume over HTTP, seen at most every few seconds; for people';

CREATE TABLE tandem.topic_fill (
    id bigint NOT NULL,
    group_id integer NOT NULL,
    reason text NOT NULL,
    from_position bigint NOT NULL,
    to_position bigint NOT NULL,
    cursor bigint NOT NULL,
    snapshot pg_snapshot NOT NULL,
    history_done boolean DEFAULT false NOT NULL,
    boundary xid8,
    delivered bigint DEFAULT 0 NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    requested_by text,
    finished_at timestamp with time zone,
    CONSTRAINT topic_fill_reason CHECK ((reason = ANY (ARRAY['start'::text, 'replay'::text, 'seek'::text])))
);

COMMENT ON TABLE tandem.topic_fill IS 'Deliveries to be made from the log: the history of a new group, its late commits, replays';

ALTER TABLE tandem.topic_fill ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tandem.topic_fill_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tandem.topic_grant (
    principal text NOT NULL COLLATE pg_catalog."C",
    operation text NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    granted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    granted_by text,
    CONSTRAINT topic_grant_operation CHECK ((operation = ANY (ARRAY['publish'::text, 'consume'::text]))),
    CONSTRAINT topic_grant_principal CHECK (((length(principal) >= 1) AND (length(principal) <= 200)))
);

COMMENT ON TABLE tandem.topic_grant IS 'What a principal of role System may publish to and consume from; topic ''*'' means every topic';

CREATE TABLE tandem.topic_group (
    id integer NOT NULL,
    topic_id integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    queue text NOT NULL COLLATE pg_catalog."C",
    version integer NOT NULL,
    start_position bigint NOT NULL,
    max_attempts smallint DEFAULT 5 NOT NULL,
    retry_delay_ms integer DEFAULT 2000 NOT NULL,
    backoff text DEFAULT 'exponential'::text NOT NULL,
    ordered boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by text,
    CONSTRAINT topic_group_attempts CHECK (((max_attempts >= 1) AND (max_attempts <= 100))),
    CONSTRAINT topic_group_backoff CHECK ((backoff = ANY (ARRAY['exponential'::text, 'linear'::text]))),
    CONSTRAINT topic_group_delay CHECK (((retry_delay_ms >= 0) AND (retry_delay_ms <= 86400000))),
    CONSTRAINT topic_group_name CHECK ((name ~ '^[a-z][a-z0-9_.-]{0,62}$'::text))
);

COMMENT ON TABLE tandem.topic_group IS 'Consumer groups; messages published at this version or later were delivered by their publisher';

COMMENT ON COLUMN tandem.topic_group.queue IS 'the queue, and the kind, of the group''s deliveries: ordinary jobs';

ALTER TABLE tandem.topic_group ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tandem.topic_group_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE tandem.topic ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tandem.topic_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tandem.topic_loss (
    topic_id integer NOT NULL,
    group_id integer NOT NULL,
    at timestamp with time zone NOT NULL,
    messages bigint NOT NULL
);

COMMENT ON TABLE tandem.topic_loss IS 'Messages that retention dropped before a group had handled them (topic.drop_unread)';

CREATE TABLE tandem.turn (
    queue text NOT NULL COLLATE pg_catalog."C",
    partition_key text NOT NULL COLLATE pg_catalog."C",
    lane text NOT NULL COLLATE pg_catalog."C",
    seq bigint DEFAULT nextval('tandem.ready_position'::regclass) NOT NULL,
    shelf text NOT NULL COLLATE pg_catalog."C",
    rank smallint NOT NULL,
    vtime double precision NOT NULL,
    eligible boolean NOT NULL,
    due_at timestamp with time zone,
    floors bigint[] NOT NULL,
    lease_floor bigint DEFAULT 0 NOT NULL,
    mean_ms double precision NOT NULL,
    tat timestamp with time zone
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE tandem.turn IS 'Whose turn it is: one live row per key that waits, written by admission alone, under the lock of its queue';

COMMENT ON COLUMN tandem.turn.seq IS 'grows with each new version: the live one is found from its end, past no dead ones';

COMMENT ON COLUMN tandem.turn.shelf IS 'the kind whose limit its next job counts against, or nothing';

COMMENT ON COLUMN tandem.turn.vtime IS 'run time received so far, in ms by weight: the lowest one is next';

COMMENT ON COLUMN tandem.turn.floors IS 'for each band the lowest blocked.pos that may wait; NULL: nothing waits in it';

COMMENT ON COLUMN tandem.turn.tat IS 'theoretical arrival time of the key''s rate (GCRA)';

CREATE TABLE tandem.unique_key (
    scope text NOT NULL COLLATE pg_catalog."C",
    queue text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    job_id bigint NOT NULL,
    body_hash bytea NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT unique_key_length CHECK (((length(key) >= 1) AND (length(key) <= 255))),
    CONSTRAINT unique_key_scope CHECK ((scope = ANY (ARRAY['pending'::text, 'unfinished'::text, 'period'::text, 'forever'::text])))
);

COMMENT ON TABLE tandem.unique_key IS 'Idempotency keys; outlives the partitions of job';

CREATE UNLOGGED TABLE tandem.wake_request (
    lane integer NOT NULL,
    queue text COLLATE pg_catalog."C"
);

COMMENT ON TABLE tandem.wake_request IS 'A row lives inside one transaction: its deferred trigger wakes the lane at commit';

COMMENT ON COLUMN tandem.wake_request.queue IS 'two of those who sleep on it are told; NULL: all who sleep on the lane';

CREATE TABLE tandem.worker (
    id uuid NOT NULL,
    name text NOT NULL,
    mode text NOT NULL,
    queues text[] NOT NULL,
    concurrency integer NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    stopped_at timestamp with time zone
)
WITH (fillfactor='50');

COMMENT ON TABLE tandem.worker IS 'One row per worker process start; for people, never for deciding what is alive';

ALTER TABLE ONLY tandem.attempt ATTACH PARTITION tandem.attempt_0 FOR VALUES FROM ('0') TO ('100000000');

ALTER TABLE ONLY tandem.attempt ATTACH PARTITION tandem.attempt_1 FOR VALUES FROM ('100000000') TO ('200000000');

ALTER TABLE ONLY tandem.attempt ATTACH PARTITION tandem.attempt_kept DEFAULT;

ALTER TABLE ONLY tandem.done ATTACH PARTITION tandem.done_0 FOR VALUES FROM ('0') TO ('100000000');

ALTER TABLE ONLY tandem.done ATTACH PARTITION tandem.done_1 FOR VALUES FROM ('100000000') TO ('200000000');

ALTER TABLE ONLY tandem.done ATTACH PARTITION tandem.done_kept DEFAULT;

ALTER TABLE ONLY tandem.job ATTACH PARTITION tandem.job_0 FOR VALUES FROM ('0') TO ('100000000');

ALTER TABLE ONLY tandem.job ATTACH PARTITION tandem.job_1 FOR VALUES FROM ('100000000') TO ('200000000');

ALTER TABLE ONLY tandem.job ATTACH PARTITION tandem.job_kept DEFAULT;

ALTER TABLE ONLY public.agent_candidates
    ADD CONSTRAINT agent_candidates_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.agent_prompting
    ADD CONSTRAINT agent_prompting_pkey PRIMARY KEY (agent_id);

ALTER TABLE ONLY public.conversation_events
    ADD CONSTRAINT conversation_events_conversation UNIQUE (conversation_id);

ALTER TABLE ONLY public.conversation_events
    ADD CONSTRAINT conversation_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.customer_audit
    ADD CONSTRAINT customer_audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.customer_capacity
    ADD CONSTRAINT customer_capacity_pkey PRIMARY KEY (single);

ALTER TABLE ONLY public.customer_invoices
    ADD CONSTRAINT customer_invoices_number UNIQUE (number);

ALTER TABLE ONLY public.customer_invoices
    ADD CONSTRAINT customer_invoices_pkey PRIMARY KEY (customer_id, month);

ALTER TABLE ONLY public.customer_jobs
    ADD CONSTRAINT customer_jobs_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY public.customer_notifications
    ADD CONSTRAINT customer_notifications_once UNIQUE (customer_id, once);

ALTER TABLE ONLY public.customer_notifications
    ADD CONSTRAINT customer_notifications_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.customer_price_lists
    ADD CONSTRAINT customer_price_lists_from UNIQUE (tier, valid_from);

ALTER TABLE ONLY public.customer_price_lists
    ADD CONSTRAINT customer_price_lists_pkey PRIMARY KEY (tier, version);

ALTER TABLE ONLY public.customer_quota_days
    ADD CONSTRAINT customer_quota_days_pkey PRIMARY KEY (customer_id, day);

ALTER TABLE ONLY public.customer_tier_history
    ADD CONSTRAINT customer_tier_history_pkey PRIMARY KEY (customer_id, since);

ALTER TABLE ONLY public.customer_tiers
    ADD CONSTRAINT customer_tiers_pkey PRIMARY KEY (tier);

ALTER TABLE ONLY public.customer_tiers
    ADD CONSTRAINT customer_tiers_rank UNIQUE (rank);

ALTER TABLE ONLY public.customer_usage
    ADD CONSTRAINT customer_usage_once UNIQUE (job_id, token, what);

ALTER TABLE ONLY public.customer_usage
    ADD CONSTRAINT customer_usage_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (customer_id);

ALTER TABLE ONLY public.friendship_agent_mapping
    ADD CONSTRAINT friendship_agent_mapping_pkey PRIMARY KEY (friendship_level, agent_id);

ALTER TABLE ONLY public.friendship_status
    ADD CONSTRAINT friendship_status_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.workflow_health
    ADD CONSTRAINT workflow_health_pkey PRIMARY KEY (workflow);

ALTER TABLE ONLY tandem.admission
    ADD CONSTRAINT admission_pkey PRIMARY KEY (queue, seq);

ALTER TABLE ONLY tandem.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY tandem.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.audit_chain
    ADD CONSTRAINT audit_chain_entry_id_key UNIQUE (entry_id);

ALTER TABLE ONLY tandem.audit_chain
    ADD CONSTRAINT audit_chain_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY tandem.audit_entry
    ADD CONSTRAINT audit_entry_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.audit_head
    ADD CONSTRAINT audit_head_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY tandem.blocked
    ADD CONSTRAINT blocked_job UNIQUE (job_id);

ALTER TABLE ONLY tandem.blocked
    ADD CONSTRAINT blocked_pkey PRIMARY KEY (queue, partition_key, lane, band, pos);

ALTER TABLE ONLY tandem.cancel_intent
    ADD CONSTRAINT cancel_intent_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.concurrency_limit
    ADD CONSTRAINT concurrency_limit_pkey PRIMARY KEY (name);

ALTER TABLE ONLY tandem.dependency
    ADD CONSTRAINT dependency_pkey PRIMARY KEY (after_job, job_id);

ALTER TABLE ONLY tandem.dependent
    ADD CONSTRAINT dependent_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.done
    ADD CONSTRAINT done_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.done_0
    ADD CONSTRAINT done_0_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.done_1
    ADD CONSTRAINT done_1_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.done_kept
    ADD CONSTRAINT done_kept_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.halted
    ADD CONSTRAINT halted_pkey PRIMARY KEY (queue, partition_key);

ALTER TABLE ONLY tandem.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.job_0
    ADD CONSTRAINT job_0_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.job_1
    ADD CONSTRAINT job_1_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.job_kept
    ADD CONSTRAINT job_kept_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.key
    ADD CONSTRAINT key_pkey PRIMARY KEY (queue, partition_key);

ALTER TABLE ONLY tandem.kind
    ADD CONSTRAINT kind_pkey PRIMARY KEY (name);

ALTER TABLE ONLY tandem.lane_floor
    ADD CONSTRAINT lane_floor_pkey PRIMARY KEY (queue, priority, floor);

ALTER TABLE ONLY tandem.leader
    ADD CONSTRAINT leader_pkey PRIMARY KEY (name);

ALTER TABLE ONLY tandem.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.message_dedup
    ADD CONSTRAINT message_dedup_pkey PRIMARY KEY (topic_id, id);

ALTER TABLE ONLY tandem.message
    ADD CONSTRAINT message_pkey PRIMARY KEY (topic_id, "position");

ALTER TABLE ONLY tandem.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY tandem.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (name);

ALTER TABLE ONLY tandem.rate
    ADD CONSTRAINT rate_pkey PRIMARY KEY (name);

ALTER TABLE ONLY tandem.ready
    ADD CONSTRAINT ready_job UNIQUE (job_id);

ALTER TABLE ONLY tandem.ready
    ADD CONSTRAINT ready_pkey PRIMARY KEY (queue, priority, pos);

ALTER TABLE ONLY tandem.schedule
    ADD CONSTRAINT schedule_pkey PRIMARY KEY (name);

ALTER TABLE ONLY tandem.schedule_tick
    ADD CONSTRAINT schedule_tick_pkey PRIMARY KEY (schedule, tick);

ALTER TABLE ONLY tandem.scheduled
    ADD CONSTRAINT scheduled_job UNIQUE (job_id);

ALTER TABLE ONLY tandem.scheduled
    ADD CONSTRAINT scheduled_pkey PRIMARY KEY (next_attempt_at, job_id);

ALTER TABLE ONLY tandem.start_deadline
    ADD CONSTRAINT start_deadline_pkey PRIMARY KEY (start_by, job_id);

ALTER TABLE ONLY tandem.topic_consumer
    ADD CONSTRAINT topic_consumer_pkey PRIMARY KEY (group_id, name);

ALTER TABLE ONLY tandem.topic_fill
    ADD CONSTRAINT topic_fill_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.topic_grant
    ADD CONSTRAINT topic_grant_pkey PRIMARY KEY (principal, operation, topic);

ALTER TABLE ONLY tandem.topic_group
    ADD CONSTRAINT topic_group_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.topic_group
    ADD CONSTRAINT topic_group_queue_key UNIQUE (queue);

ALTER TABLE ONLY tandem.topic_group
    ADD CONSTRAINT topic_group_topic_id_name_key UNIQUE (topic_id, name);

ALTER TABLE ONLY tandem.topic
    ADD CONSTRAINT topic_name_key UNIQUE (name);

ALTER TABLE ONLY tandem.topic
    ADD CONSTRAINT topic_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tandem.touch
    ADD CONSTRAINT touch_pkey PRIMARY KEY (queue, pos);

ALTER TABLE ONLY tandem.turn
    ADD CONSTRAINT turn_pkey PRIMARY KEY (queue, partition_key, lane, seq);

ALTER TABLE ONLY tandem.unique_key
    ADD CONSTRAINT unique_key_pkey PRIMARY KEY (scope, queue, key);

ALTER TABLE ONLY tandem.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (id);

CREATE INDEX conversation_events_pending ON public.conversation_events USING btree (next_attempt_at) WHERE (status = 'PENDING'::text);

CREATE INDEX customer_audit_target ON public.customer_audit USING btree (target, id);

CREATE INDEX customer_jobs_counted ON public.customer_jobs USING btree (job_id) WHERE ((ended_at IS NULL) AND counted);

CREATE INDEX customer_jobs_ended ON public.customer_jobs USING btree (customer_id, ended_at) WHERE (ended_at IS NOT NULL);

CREATE UNIQUE INDEX customer_jobs_idempotency ON public.customer_jobs USING btree (customer_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX customer_jobs_of ON public.customer_jobs USING btree (customer_id, job_id);

CREATE INDEX customer_jobs_open ON public.customer_jobs USING btree (job_id) WHERE (ended_at IS NULL);

CREATE INDEX customer_notifications_of ON public.customer_notifications USING btree (customer_id, created_at);

CREATE INDEX customer_usage_of ON public.customer_usage USING btree (customer_id, occurred_at);

CREATE INDEX attempt_job ON ONLY tandem.attempt USING btree (job_id, finished_at);

CREATE INDEX attempt_0_job_id_finished_at_idx ON tandem.attempt_0 USING btree (job_id, finished_at);

CREATE INDEX attempt_1_job_id_finished_at_idx ON tandem.attempt_1 USING btree (job_id, finished_at);

CREATE INDEX attempt_kept_job_id_finished_at_idx ON tandem.attempt_kept USING btree (job_id, finished_at);

CREATE INDEX audit_entry_xid ON tandem.audit_entry USING btree (xid);

CREATE INDEX delivery_end_xid ON tandem.delivery_end USING btree (xid);

CREATE INDEX dependency_job ON tandem.dependency USING btree (job_id);

CREATE INDEX done_dead ON ONLY tandem.done USING btree (finished_at) WHERE (outcome = 'DEAD'::text);

CREATE INDEX done_0_finished_at_idx ON tandem.done_0 USING btree (finished_at) WHERE (outcome = 'DEAD'::text);

CREATE INDEX done_cancelled ON ONLY tandem.done USING btree (finished_at) WHERE (outcome = 'CANCELLED'::text);

CREATE INDEX done_0_finished_at_idx1 ON tandem.done_0 USING btree (finished_at) WHERE (outcome = 'CANCELLED'::text);

CREATE INDEX done_result_expires ON ONLY tandem.done USING btree (result_expires_at) WHERE (result_expires_at IS NOT NULL);

CREATE INDEX done_0_result_expires_at_idx ON tandem.done_0 USING btree (result_expires_at) WHERE (result_expires_at IS NOT NULL);

CREATE INDEX done_1_finished_at_idx ON tandem.done_1 USING btree (finished_at) WHERE (outcome = 'DEAD'::text);

CREATE INDEX done_1_finished_at_idx1 ON tandem.done_1 USING btree (finished_at) WHERE (outcome = 'CANCELLED'::text);

CREATE INDEX done_1_result_expires_at_idx ON tandem.done_1 USING btree (result_expires_at) WHERE (result_expires_at IS NOT NULL);

CREATE INDEX done_kept_finished_at_idx ON tandem.done_kept USING btree (finished_at) WHERE (outcome = 'DEAD'::text);

CREATE INDEX done_kept_finished_at_idx1 ON tandem.done_kept USING btree (finished_at) WHERE (outcome = 'CANCELLED'::text);

CREATE INDEX done_kept_result_expires_at_idx ON tandem.done_kept USING btree (result_expires_at) WHERE (result_expires_at IS NOT NULL);

CREATE INDEX lease_expires ON tandem.lease USING btree (expires_at);

CREATE INDEX lease_key_slot ON tandem.lease USING btree (queue, partition_key, slot) WHERE (kind IS NOT NULL);

CREATE INDEX lease_slot ON tandem.lease USING btree (queue, slot) WHERE (exempt IS NOT NULL);

CREATE INDEX message_dedup_expires ON tandem.message_dedup USING btree (expires_at);

CREATE INDEX message_published_at ON ONLY tandem.message USING brin (published_at) WITH (pages_per_range='16', autosummarize='on');

CREATE INDEX message_xid ON ONLY tandem.message USING brin (xid) WITH (pages_per_range='16', autosummarize='on');

CREATE INDEX queue_managed ON tandem.queue USING btree (name) WHERE managed;

CREATE INDEX rate_tat ON tandem.rate USING btree (tat);

CREATE INDEX service_sample_at ON tandem.service_sample USING btree (at);

CREATE INDEX service_sample_queue ON tandem.service_sample USING btree (queue, at);

CREATE INDEX topic_fill_open ON tandem.topic_fill USING btree (id) WHERE (finished_at IS NULL);

CREATE INDEX turn_due ON tandem.turn USING btree (queue, due_at) WHERE (due_at IS NOT NULL);

CREATE INDEX turn_next ON tandem.turn USING btree (queue, shelf, rank, vtime) WHERE eligible;

CREATE INDEX unique_key_expires ON tandem.unique_key USING btree (expires_at) WHERE (expires_at IS NOT NULL);

ALTER INDEX tandem.attempt_job ATTACH PARTITION tandem.attempt_0_job_id_finished_at_idx;

ALTER INDEX tandem.attempt_job ATTACH PARTITION tandem.attempt_1_job_id_finished_at_idx;

ALTER INDEX tandem.attempt_job ATTACH PARTITION tandem.attempt_kept_job_id_finished_at_idx;

ALTER INDEX tandem.done_dead ATTACH PARTITION tandem.done_0_finished_at_idx;

ALTER INDEX tandem.done_cancelled ATTACH PARTITION tandem.done_0_finished_at_idx1;

ALTER INDEX tandem.done_pkey ATTACH PARTITION tandem.done_0_pkey;

ALTER INDEX tandem.done_result_expires ATTACH PARTITION tandem.done_0_result_expires_at_idx;

ALTER INDEX tandem.done_dead ATTACH PARTITION tandem.done_1_finished_at_idx;

ALTER INDEX tandem.done_cancelled ATTACH PARTITION tandem.done_1_finished_at_idx1;

ALTER INDEX tandem.done_pkey ATTACH PARTITION tandem.done_1_pkey;

ALTER INDEX tandem.done_result_expires ATTACH PARTITION tandem.done_1_result_expires_at_idx;

ALTER INDEX tandem.done_dead ATTACH PARTITION tandem.done_kept_finished_at_idx;

ALTER INDEX tandem.done_cancelled ATTACH PARTITION tandem.done_kept_finished_at_idx1;

ALTER INDEX tandem.done_pkey ATTACH PARTITION tandem.done_kept_pkey;

ALTER INDEX tandem.done_result_expires ATTACH PARTITION tandem.done_kept_result_expires_at_idx;

ALTER INDEX tandem.job_pkey ATTACH PARTITION tandem.job_0_pkey;

ALTER INDEX tandem.job_pkey ATTACH PARTITION tandem.job_1_pkey;

ALTER INDEX tandem.job_pkey ATTACH PARTITION tandem.job_kept_pkey;

CREATE TRIGGER customer_audit_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.customer_audit FOR EACH STATEMENT EXECUTE FUNCTION public.customer_row_is_kept();

CREATE TRIGGER customer_price_lists_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.customer_price_lists FOR EACH STATEMENT EXECUTE FUNCTION public.customer_row_is_kept();

CREATE TRIGGER customer_usage_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.customer_usage FOR EACH STATEMENT EXECUTE FUNCTION public.customer_row_is_kept();

CREATE TRIGGER audit_chain_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON tandem.audit_chain FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();

CREATE TRIGGER audit_entry_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON tandem.audit_entry FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();

CREATE TRIGGER audit_head_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON tandem.audit_head FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();

CREATE CONSTRAINT TRIGGER ready_wakes AFTER INSERT ON tandem.ready DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.wakes) EXECUTE FUNCTION tandem.wake_ready();

CREATE CONSTRAINT TRIGGER wake_requested AFTER INSERT ON tandem.wake_request DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tandem.wake_requested();

ALTER TABLE ONLY public.customer_invoices
    ADD CONSTRAINT customer_invoices_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES public.customers(customer_id);

ALTER TABLE ONLY public.customer_jobs
    ADD CONSTRAINT customer_jobs_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES public.customers(customer_id);

ALTER TABLE ONLY public.customer_notifications
    ADD CONSTRAINT customer_notifications_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES public.customers(customer_id);

ALTER TABLE ONLY public.customer_price_lists
    ADD CONSTRAINT customer_price_lists_tier_fkey FOREIGN KEY (tier) REFERENCES public.customer_tiers(tier);

ALTER TABLE ONLY public.customer_tier_history
    ADD CONSTRAINT customer_tier_history_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES public.customers(customer_id);

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_tier_fkey FOREIGN KEY (tier) REFERENCES public.customer_tiers(tier);

ALTER TABLE ONLY public.friendship_agent_mapping
    ADD CONSTRAINT friendship_agent_mapping_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES public.agent_prompting(agent_id) ON DELETE CASCADE;

ALTER TABLE ONLY tandem.message_dedup
    ADD CONSTRAINT message_dedup_topic_id_fkey FOREIGN KEY (topic_id) REFERENCES tandem.topic(id) ON DELETE CASCADE;

ALTER TABLE ONLY tandem.topic_consumer
    ADD CONSTRAINT topic_consumer_group_id_fkey FOREIGN KEY (group_id) REFERENCES tandem.topic_group(id) ON DELETE CASCADE;

ALTER TABLE ONLY tandem.topic_fill
    ADD CONSTRAINT topic_fill_group_id_fkey FOREIGN KEY (group_id) REFERENCES tandem.topic_group(id) ON DELETE CASCADE;

ALTER TABLE ONLY tandem.topic_group
    ADD CONSTRAINT topic_group_topic_id_fkey FOREIGN KEY (topic_id) REFERENCES tandem.topic(id) ON DELETE CASCADE;

ALTER TABLE ONLY tandem.topic_loss
    ADD CONSTRAINT topic_loss_topic_id_fkey FOREIGN KEY (topic_id) REFERENCES tandem.topic(id) ON DELETE CASCADE;

REVOKE ALL ON FUNCTION tandem.add_partition(number bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION tandem.drop_partition(number bigint, survivors bigint[]) FROM PUBLIC;
