-- Managed queues: keys, limits, rates, order and fairness. Their jobs wait in `blocked`, never in `ready`, and are
-- claimed by admission, which moves them to `lease`. Frozen: later changes come as later migrations.

ALTER TABLE tandem.queue
    ADD COLUMN managed boolean NOT NULL DEFAULT false,
    ADD COLUMN ordered boolean NOT NULL DEFAULT false,
    ADD COLUMN dead_head text NOT NULL DEFAULT 'skip' CONSTRAINT queue_dead_head CHECK (dead_head IN ('skip', 'block')),
    ADD COLUMN max_running integer CONSTRAINT queue_max_running CHECK (max_running >= 0),
    ADD COLUMN key_max_running integer CONSTRAINT queue_key_max_running CHECK (key_max_running >= 0),
    ADD COLUMN key_rate double precision CONSTRAINT queue_key_rate CHECK (key_rate > 0),
    ADD COLUMN key_burst integer NOT NULL DEFAULT 1 CONSTRAINT queue_key_burst CHECK (key_burst > 0),
    ADD COLUMN rank_keys boolean NOT NULL DEFAULT false,
    ADD COLUMN age_after interval CONSTRAINT queue_age_after CHECK (age_after > interval '0'),
    ADD COLUMN age_step smallint CONSTRAINT queue_age_step CHECK (age_step BETWEEN 0 AND 9),
    ADD COLUMN age_most smallint CONSTRAINT queue_age_most CHECK (age_most BETWEEN 0 AND 9);
CREATE INDEX queue_managed ON tandem.queue (name) WHERE managed;
COMMENT ON COLUMN tandem.queue.managed IS 'its jobs wait in blocked and are admitted under limits, order and fairness';
COMMENT ON COLUMN tandem.queue.ordered IS 'strict order: one job of a key at a time, first in first out; a retry keeps its place';
COMMENT ON COLUMN tandem.queue.dead_head IS 'ordered queues: whether a key goes on past a dead letter (skip) or stops (block)';
COMMENT ON COLUMN tandem.queue.key_max_running IS 'how many jobs of one key may run at once, unless tandem.key says otherwise';
COMMENT ON COLUMN tandem.queue.key_rate IS 'how many jobs of one key may start per second, key_burst of them at once';
COMMENT ON COLUMN tandem.queue.age_after IS 'set by an operator: each time a job has waited this long, its priority rises by age_step, at most to age_most';
COMMENT ON COLUMN tandem.queue.rank_keys IS 'the priority of a key''s best job decides between keys, before fairness does';

DROP TABLE tandem.key;
CREATE TABLE tandem.key (
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C" NOT NULL,
    max_running   integer CONSTRAINT key_max_running CHECK (max_running >= 0),
    weight        double precision NOT NULL DEFAULT 1 CONSTRAINT key_weight CHECK (weight > 0),
    exempt        boolean     NOT NULL DEFAULT false,
    rate          double precision CONSTRAINT key_rate CHECK (rate > 0),
    burst         integer CONSTRAINT key_burst CHECK (burst > 0),
    PRIMARY KEY (queue, partition_key)
);
COMMENT ON TABLE tandem.key IS 'What one partition key of a managed queue has of its own: limit, weight, rate, exemption from the global limit';

CREATE TABLE tandem.concurrency_limit (
    name          text COLLATE "C" NOT NULL PRIMARY KEY
                  CONSTRAINT concurrency_limit_name CHECK (name = 'global' OR name ~ '^kind:[a-z][a-z0-9_.-]{0,62}$'),
    max_running   integer     NOT NULL CONSTRAINT concurrency_limit_max_running CHECK (max_running >= 0)
);
COMMENT ON TABLE tandem.concurrency_limit IS 'Limits over all managed queues: global and of kinds; their rows are locked by admission';

ALTER TABLE tandem.blocked
    DROP CONSTRAINT blocked_pkey, DROP CONSTRAINT blocked_reason,
    ADD COLUMN lane text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN band smallint NOT NULL,
    ADD COLUMN not_before timestamptz,
    ADD CONSTRAINT blocked_reason CHECK (waiting_for IN ('limit', 'key')),
    ADD PRIMARY KEY (queue, partition_key, lane, band, pos);
COMMENT ON TABLE tandem.blocked IS 'Jobs of managed queues that wait for admission; key '''' is none, lane a kind under a limit of its own';

CREATE TABLE tandem.touch (
    queue         text COLLATE "C" NOT NULL,
    pos           bigint      NOT NULL DEFAULT nextval('tandem.ready_position'),
    partition_key text COLLATE "C" NOT NULL,
    band          smallint,
    first         bigint,
    ended         integer     NOT NULL DEFAULT 0,
    ran_ms        double precision NOT NULL DEFAULT 0,
    charged_ms    double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, pos)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.touch IS 'Says to admission: look at this key. One row per key and transaction that adds to blocked or ends a lease';
COMMENT ON COLUMN tandem.touch.first IS 'the lowest blocked.pos that came, in `band`';
COMMENT ON COLUMN tandem.touch.ended IS 'leases that ended after ran_ms, of which charged_ms had been charged when they were admitted';

CREATE TABLE tandem.turn (
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C" NOT NULL,
    lane          text COLLATE "C" NOT NULL,
    seq           bigint      NOT NULL DEFAULT nextval('tandem.ready_position'),
    shelf         text COLLATE "C" NOT NULL,
    rank          smallint    NOT NULL,
    vtime         double precision NOT NULL,
    eligible      boolean     NOT NULL,
    due_at        timestamptz,
    floors        bigint[]    NOT NULL,
    lease_floor   bigint      NOT NULL DEFAULT 0,
    mean_ms       double precision NOT NULL,
    tat           timestamptz,
    PRIMARY KEY (queue, partition_key, lane, seq)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX turn_next ON tandem.turn (queue, shelf, rank, vtime) WHERE eligible;
CREATE INDEX turn_due ON tandem.turn (queue, due_at) WHERE due_at IS NOT NULL;
COMMENT ON TABLE tandem.turn IS 'Whose turn it is: one live row per key that waits, written by admission alone, under the lock of its queue';
COMMENT ON COLUMN tandem.turn.seq IS 'grows with each new version: the live one is found from its end, past no dead ones';
COMMENT ON COLUMN tandem.turn.shelf IS 'the kind whose limit its next job counts against, or nothing';
COMMENT ON COLUMN tandem.turn.vtime IS 'run time received so far, in ms by weight: the lowest one is next';
COMMENT ON COLUMN tandem.turn.floors IS 'for each band the lowest blocked.pos that may wait; NULL: nothing waits in it';
COMMENT ON COLUMN tandem.turn.tat IS 'theoretical arrival time of the key''s rate (GCRA)';

CREATE TABLE tandem.admission (
    queue         text COLLATE "C" NOT NULL,
    seq           bigint      NOT NULL DEFAULT nextval('tandem.ready_position'),
    heard         bigint      NOT NULL,
    probed_at     timestamptz NOT NULL,
    clock_ms      double precision NOT NULL,
    mean_ms       double precision NOT NULL,
    slot_floor    bigint      NOT NULL,
    due_floor     timestamptz NOT NULL,
    shelves       text[]      NOT NULL,
    ranks         smallint[]  NOT NULL,
    starts        double precision[] NOT NULL,
    per_turn      double precision NOT NULL,
    PRIMARY KEY (queue, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.admission IS 'What the admission of a queue remembers; the highest seq counts';
COMMENT ON COLUMN tandem.admission.starts IS 'for each shelf and rank the lowest vtime of an eligible turn';
COMMENT ON COLUMN tandem.admission.per_turn IS 'how many jobs a turn brought in the last pass: so many turns are opened for what is wanted';

CREATE TABLE tandem.halted (
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C" NOT NULL,
    job_id        bigint      NOT NULL,
    halted_at     timestamptz NOT NULL,
    PRIMARY KEY (queue, partition_key)
);
COMMENT ON TABLE tandem.halted IS 'Keys of ordered queues that stopped behind a dead letter, until it is redriven, purged or passed over';

ALTER TABLE tandem.lease
    ADD COLUMN slot bigint, ADD COLUMN kind text COLLATE "C", ADD COLUMN exempt boolean, ADD COLUMN charged_ms double precision;
-- All three columns are set or none is. Each index asks for one of its own, so that a statement names the index it means: by
-- statistics of a moment without leases each looks as good as the others.
CREATE INDEX lease_key_slot ON tandem.lease (queue, partition_key, slot) WHERE kind IS NOT NULL;
CREATE INDEX lease_slot ON tandem.lease (queue, slot) WHERE exempt IS NOT NULL;
COMMENT ON COLUMN tandem.lease.slot IS 'grows with each admission; NULL outside managed queues';

CREATE OR REPLACE VIEW tandem.job_status AS
SELECT m.job_id, j.kind, m.queue, 'PENDING'::text AS status, 'nothing'::text AS waiting_for, m.attempt, m.crashes, m.priority,
       m.partition_key, m.ready_at AS next_attempt_at, NULL::uuid AS worker, NULL::timestamptz AS started_at,
       NULL::timestamptz AS expires_at, NULL::timestamptz AS finished_at, NULL::text AS error_class, NULL::text AS reason,
       j.created_at, j.event_id
FROM tandem.ready AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id
UNION ALL
SELECT m.job_id, j.kind, m.queue, 'PENDING', 'time', m.attempt, m.crashes, m.priority, m.partition_key, m.next_attempt_at,
       NULL, NULL, NULL, NULL, NULL, NULL, j.created_at, j.event_id
FROM tandem.scheduled AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id
UNION ALL
SELECT m.job_id, j.kind, m.queue, 'PENDING', m.waiting_for, m.attempt, m.crashes, m.priority, nullif(m.partition_key, ''),
       coalesce(m.not_before, m.blocked_at), NULL, NULL, NULL, NULL, NULL, NULL, j.created_at, j.event_id
FROM tandem.blocked AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id
UNION ALL
SELECT m.job_id, j.kind, m.queue, 'RUNNING', NULL, m.attempt, m.crashes, m.priority, m.partition_key, NULL,
       m.worker, m.claimed_at, m.expires_at, NULL, NULL, NULL, j.created_at, j.event_id
FROM tandem.lease AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id
UNION ALL
SELECT m.job_id, j.kind, j.queue, 'SUCCEEDED', NULL, m.attempt, NULL, j.priority, j.partition_key, NULL,
       m.worker, m.started_at, NULL, m.finished_at, m.error_class, m.reason, j.created_at, j.event_id
FROM tandem.done AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id WHERE m.outcome = 'SUCCEEDED'
UNION ALL
SELECT m.job_id, j.kind, j.queue, 'DEAD', NULL, m.attempt, NULL, j.priority, j.partition_key, NULL,
       m.worker, m.started_at, NULL, m.finished_at, m.error_class, m.reason, j.created_at, j.event_id
FROM tandem.done AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id WHERE m.outcome = 'DEAD'
UNION ALL
SELECT m.job_id, j.kind, j.queue, 'CANCELLED', NULL, m.attempt, NULL, j.priority, j.partition_key, NULL,
       m.worker, m.started_at, NULL, m.finished_at, m.error_class, m.reason, j.created_at, j.event_id
FROM tandem.done AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id WHERE m.outcome = 'CANCELLED';
COMMENT ON VIEW tandem.job_status IS 'Where every job stands; a filter on job_id or status reads only what it needs';

CREATE TABLE tandem.rate (
    name          text COLLATE "C" NOT NULL PRIMARY KEY,
    tat           timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX rate_tat ON tandem.rate (tat);
COMMENT ON TABLE tandem.rate IS 'Rates of requests (GCRA): the theoretical arrival time of each name';

-- tandem.block_jobs(...): lets jobs of managed queues wait for admission, and says so to it, one element each. Internal.
-- `again` says that they ran or were delayed before: in an unordered queue they go behind those that wait, in an
-- ordered one to their old place. STRICT: with NULL (no such job in the caller's statement) it is not even called.
CREATE OR REPLACE FUNCTION tandem.block_jobs(
    ids bigint[], queues text[], partition_keys text[], priorities smallint[], attempts smallint[], crashes smallint[],
    suspects boolean[], sinces timestamptz[], not_befores timestamptz[], again boolean
) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
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

-- tandem.block_job(...): tandem.enqueue where the queue is managed: the job waits in `blocked`. Internal.
-- `wakes` says that the job was to carry the mark that wakes its lane at the commit, which only `ready` can.
CREATE OR REPLACE FUNCTION tandem.block_job(
    id bigint, at timestamptz, queue text, priority integer, partition_key text, wakes boolean
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane integer := tandem.wake_lane(queue);
BEGIN
    PERFORM tandem.block_jobs(ARRAY[id], ARRAY[queue], ARRAY[partition_key], ARRAY[priority]::smallint[], '{0}', '{0}', '{f}',
                              ARRAY[at], ARRAY[NULL::timestamptz], false);
    IF wakes THEN
        PERFORM set_config('tandem.wake_' || lane, '', true);
        PERFORM tandem.wake_at_commit(lane);
    END IF;
END
$$;

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
        PERFORM tandem.wake_at_commit(l.lane) FROM (
            SELECT DISTINCT tandem.wake_lane(coalesce(c.queue, 'default')) AS lane
            FROM pg_temp.tandem_copy AS c WHERE coalesce(c.run_at <= at, true)) AS l;
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
    IF NOT tandem.fits_size(payload, policy, context) THEN payload := tandem.refuse_size(payload, policy, context); END IF;
    IF unique_key IS NULL AND run_at IS NULL THEN  -- the common case, without the array machinery
        IF NOT tandem.fits_job(kind, queue, priority, partition_key) THEN kind := tandem.refuse_job(kind, queue, priority, partition_key); END IF;
        -- First the xid, then clock and position. The first row of a transaction and lane wakes it at the commit.
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

-- tandem.take_rate(name, every, burst, cost): takes `cost` from a rate that gives one each `every` and keeps at most `burst`.
-- Generic cell rate algorithm (ITU-T I.371): one theoretical arrival time per name. A refusal writes nothing.
-- `tat` answers when the rate is full again; it belongs to the caller's transaction and goes back with it.
CREATE OR REPLACE FUNCTION tandem.take_rate(rate_name text, every interval, burst integer, cost integer)
RETURNS TABLE (allowed boolean, at timestamptz, tat timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.lowest_by_band(bands, positions): ten positions, for each band the lowest one given. Internal to admission.
CREATE OR REPLACE FUNCTION tandem.lowest_by_band(bands smallint[], positions bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT min(u.pos) FROM generate_series(0, 9) AS g(band) LEFT JOIN unnest(bands, positions) AS u(band, pos) USING (band)
             GROUP BY g.band ORDER BY g.band);

-- tandem.covers(floors, firsts): whether a turn's floors lie at or below all that came, so that nothing changes. Internal.
CREATE OR REPLACE FUNCTION tandem.covers(floors bigint[], firsts bigint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN NOT EXISTS (SELECT FROM unnest(floors, firsts) AS u(floor, first) WHERE u.first IS NOT NULL AND coalesce(u.floor > u.first, true));

-- tandem.next_vtime(own, least, added): a key's virtual time after a charge, never below `least`: who was away comes back at
-- the clock of its queue, not with all the time it did not use (start-time fair queueing, Goyal and others, 1996). Internal.
CREATE OR REPLACE FUNCTION tandem.next_vtime(own double precision, least_one double precision, added double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN greatest(coalesce(own, least_one) + coalesce(added, 0), least_one);

-- tandem.next_mean(mean, ran, ended): the running mean of run times in ms after `ended` jobs that ran `ran` ms together.
-- Internal: it is what an admission charges before the job's own time is known.
CREATE OR REPLACE FUNCTION tandem.next_mean(mean double precision, ran double precision, ended bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN ended > 0 THEN mean + (1 - 0.8 ^ ended::double precision) * (ran / ended - mean) ELSE mean END;

-- tandem.key_terms(queue, key's row or NULL, key): how many jobs of a key may run at once and how often one may start
-- (NULL: as many, as often as you like), and its weight. Internal to admission, and plain enough to be inlined there.
-- Jobs without a key have no terms of a key.
CREATE OR REPLACE FUNCTION tandem.key_terms(q tandem.queue, k tandem.key, partition_key text)
RETURNS TABLE (most integer, every interval, burst integer, weight double precision)
LANGUAGE sql STABLE
AS $$
SELECT CASE WHEN partition_key <> '' THEN least(coalesce(k.max_running, q.key_max_running), CASE WHEN q.ordered THEN 1 END) END,
       CASE WHEN partition_key <> '' THEN interval '1 s' / coalesce(k.rate, q.key_rate) END,
       coalesce(k.burst, q.key_burst), coalesce(k.weight, 1.0)
$$;

-- tandem.find_heads(queue, key, lane, floors, firsts): for each band the lowest position that waits, looked for from the
-- lower one of floor and what came; `best` is the highest band with one. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.find_heads(queue_name text, key text, lane_name text, floors bigint[], firsts bigint[])
RETURNS TABLE (heads bigint[], best integer)
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

-- tandem.count_leases(queue, key, floor, most): how many jobs of a key run, from the lowest slot that may live on, and that
-- slot. Internal to admission, inlined there. Where nothing is limited (`most` is NULL) nothing is counted.
CREATE OR REPLACE FUNCTION tandem.count_leases(queue_name text, key text, floor bigint, most integer)
RETURNS TABLE (live bigint, lease_floor bigint)
LANGUAGE sql STABLE
AS $$
SELECT count(*), coalesce(min(l.slot), floor) FROM tandem.lease AS l
WHERE most IS NOT NULL AND l.queue = queue_name AND l.partition_key = key AND l.kind IS NOT NULL AND l.slot >= floor
$$;

-- tandem.head_waits(...): until when a key must wait (its rate; in an ordered queue its head's own delay), whether it stopped
-- behind a dead letter, and in an ordered queue its head's kind. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.head_waits(
    q tandem.queue, key text, lane_name text, heads bigint[], tat timestamptz, every interval, burst integer, at timestamptz
) RETURNS TABLE (due_at timestamptz, halted boolean, kind text)
LANGUAGE sql STABLE
AS $$
SELECT nullif(greatest(tat - (burst - 1) * every, h.not_before, at), at),
       q.ordered AND EXISTS (SELECT FROM tandem.halted AS s WHERE q.ordered AND s.queue = q.name AND s.partition_key = key), h.kind
FROM (SELECT 1) AS one LEFT JOIN LATERAL (
    SELECT b.not_before, (SELECT j.kind FROM tandem.job AS j WHERE j.id = b.job_id) AS kind FROM tandem.blocked AS b
    WHERE q.ordered AND key <> '' AND b.queue = q.name AND b.partition_key = key AND b.lane = lane_name AND b.band = 0
      AND b.pos = heads[1] LIMIT 1) AS h ON true  -- LIMIT: a plan of its own, which unordered queues do not enter
$$;

-- tandem.open_turns(...): up to `want` turns that may go on, by rank and then the least run time; those of one shelf only as
-- its kind has room, and only exempt keys (rank 10) where the global limit is reached. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.open_turns(
    queue_name text, st tandem.admission, want bigint, global_room bigint, kinds text[], kind_rooms bigint[]
) RETURNS TABLE (partition_key text, lane text, rank smallint, vtime double precision, floors bigint[], mean_ms double precision,
                 tat timestamptz, lease_floor bigint, tid tid)
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

-- tandem.next_in_line(queue, key, lane, floors, most): the first jobs of a key's lane, the highest band first, each with the
-- position of the very first. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.next_in_line(queue_name text, key text, lane_name text, floors bigint[], most bigint)
RETURNS TABLE (job_id bigint, pos bigint, head bigint, nth bigint)
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

-- tandem.choose_jobs(...): the jobs that come next. Jobs of open turns are ordered as fair queueing would start them, one by
-- one: by virtual time, each job charged with its key's mean; jobs shorter than 5 ms go together, up to that, since a turn for
-- each would cost more than they run. A turn without a job (it was cancelled meanwhile) answers a row without one; `misplaced`
-- are jobs of a limited kind in the common lane; kinds are looked up where one is limited. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.choose_jobs(
    q tandem.queue, st tandem.admission, now timestamptz, want bigint, global_room bigint, kinds text[], kind_rooms bigint[]
) RETURNS TABLE (partition_key text, lane text, job_id bigint, pos bigint, kind text, start double precision, vtime double precision, step double precision, mean_ms double precision, tat timestamptz, every interval, exempt boolean,
                 misplaced boolean, taken boolean, plain boolean, asked bigint, live bigint, lease_floor bigint, floors bigint[], tid tid)
LANGUAGE sql STABLE AS $$
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

-- tandem.place_turns(...): writes the turns of keys as they stand now: what waits, whether they may go on, and when.
-- Internal to admission, under the queue's lock. One element per (key, lane); `firsts` has a row of ten positions each
-- (what came, by band) or is NULL. Answers the state with the new turns noted on their shelves.
CREATE OR REPLACE FUNCTION tandem.kept_in_sight(q tandem.queue, key text, heads bigint[], live bigint, lease_floor bigint) RETURNS bigint[]
LANGUAGE sql STABLE
RETURN CASE WHEN q.ordered AND live > 0 THEN ARRAY[least(heads[1], (
    SELECT min(l.job_id) FROM (  -- OFFSET: not by the order of ids, past all that were
        SELECT o.job_id FROM tandem.lease AS o
        WHERE o.queue = q.name AND o.partition_key = key AND o.kind IS NOT NULL AND o.slot >= lease_floor OFFSET 0) AS l))] || heads[2:] ELSE heads END;

CREATE OR REPLACE FUNCTION tandem.place_turns(
    q tandem.queue, st tandem.admission, at timestamptz, keys text[], lanes text[], vtimes double precision[],
    means double precision[], tats timestamptz[], firsts bigint[], limited text[]
) RETURNS tandem.admission
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.hear_touches(...): takes in what producers and finishers said since (`ends`: what nobody wrote down), charges run time,
-- and places the turns of keys that changed. Internal to admission, under the queue's lock. Late commits, between the safe floor
-- and what was heard, are looked for every 0.2 s and by whoever is about to sleep (`thorough`). A key that may go on learns only
-- of a charge from jobs that ended: where that is little, one of four is written, and stands for four. Plain keys (unordered,
-- no terms of their own, no rate) are written here, their floors taken on trust: a turn without a job is put right when it comes.
CREATE OR REPLACE FUNCTION tandem.hear_touches(q tandem.queue, st tandem.admission, at timestamptz, thorough boolean, ends tandem.touch[], limited text[]) RETURNS tandem.admission
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
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

-- tandem.count_room(queue, state): how many jobs more the limits allow: in the queue, over all managed queues without exempt
-- keys, and by limited kind (NULL: no limit); and the lowest slot of the queue that lives. Internal to admission: the rows of
-- the limits are locked, so that nobody admits between this count and the caller's commit.
CREATE OR REPLACE FUNCTION tandem.count_room(
    q tandem.queue, st tandem.admission, OUT queue_room bigint, OUT global_room bigint, OUT kinds text[], OUT kind_rooms bigint[],
    OUT slot_floor bigint
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.admit_pass(...): chooses jobs, leases them, and places the turns behind them; jobs of limited kinds that stand in
-- the common lane move to their own instead. Answers ids and since when they waited; `changed` is false where nothing was left
-- to do. Internal to admission, under the queue's lock. A row that a cancel has locked is left to it. The turns of plain keys
-- (see hear_touches) are written here from what was read on the way: fewer jobs than asked for means that none is left.
CREATE OR REPLACE FUNCTION tandem.admit_pass(
    q tandem.queue, INOUT st tandem.admission, now timestamptz, want bigint, global_room bigint, kinds text[], kind_rooms bigint[],
    worker uuid, token bigint, lease interval, OUT ids bigint[], OUT sinces timestamptz[], OUT changed boolean
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
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

-- tandem.finish_leases(...): finishes succeeded jobs as finish_jobs does, and answers the ids that were still ours. Internal
-- to admission: a slot that ends and its next job are one transaction, so that a limit that is reached stays reached. What
-- ended in `heard_by`, the queue that is admitted to next, is answered as touches not yet written.
CREATE OR REPLACE FUNCTION tandem.finish_leases(
    heard_by text, job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[],
    OUT finished bigint[], OUT ends tandem.touch[]
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH input AS MATERIALIZED (
        SELECT u.job_id, u.token, u.ran_ms, u.result, u.ttl
        FROM unnest(job_ids, tokens, ran_ms, results, ttls) AS u(job_id, token, ran_ms, result, ttl) ORDER BY u.job_id
    ), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
        DELETE FROM tandem.lease AS l USING input AS i
        WHERE l.job_id = i.job_id AND l.token = i.token
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
END
$$;

-- tandem.open_admission(queue, now, thorough, ends): the state of a queue's admission (a first one where it has none), with all
-- that was said since, and what the caller has ended, taken in and the keys whose time has come placed again. Internal,
-- under the queue's lock.
CREATE OR REPLACE FUNCTION tandem.open_admission(q tandem.queue, now timestamptz, thorough boolean, ends tandem.touch[]) RETURNS tandem.admission
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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
        PERFORM tandem.wake(ARRAY[tandem.wake_lane(q.name)]);
    END IF;
    RETURN (SELECT extract(epoch FROM min(t.due_at) - now) FROM tandem.turn AS t WHERE t.queue = q.name AND t.due_at > st.due_floor);
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
        PERFORM tandem.wake(ARRAY[tandem.wake_lane(queue_name)]);  -- the caller takes no more: let others use what it freed
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

-- tandem.recheck_keys(queue, key): lets admission look at a key again, or at all keys of the queue that wait (NULL), and wakes
-- the queue's workers at the commit. Internal: for changes of limits.
CREATE OR REPLACE FUNCTION tandem.recheck_keys(queue_name text, key text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO tandem.touch (queue, partition_key)
    SELECT queue_name, key WHERE key IS NOT NULL
    UNION ALL SELECT DISTINCT t.queue, t.partition_key FROM tandem.turn AS t WHERE key IS NULL AND t.queue = queue_name;
    PERFORM tandem.wake_at_commit(tandem.wake_lane(queue_name));
END
$$;

-- tandem.set_limit(target, ...): sets a limit; what is NULL stays as it is. In effect with the next admission: a lowered limit
-- drains, it ends nothing. Targets: `global` and `kind:NAME` (max_running), `queue:NAME` (max_running), `key:QUEUE/KEY` (all;
-- rate is starts per second, burst how many of them at once; exempt: from the global limit). Limits act in managed queues.
CREATE OR REPLACE FUNCTION tandem.set_limit(
    target text, max_running integer DEFAULT NULL, weight double precision DEFAULT NULL, rate double precision DEFAULT NULL,
    burst integer DEFAULT NULL, exempt boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.clear_limit(target): removes a limit, and all that a key had of its own. Answers whether there was one.
CREATE OR REPLACE FUNCTION tandem.clear_limit(target text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.manage_queue(name, ...): makes a queue managed, or changes how it is managed, all settings at once. Jobs that wait
-- move over with tandem.move_waiting; call it until it answers 0 (the sweep does so too).
CREATE OR REPLACE FUNCTION tandem.manage_queue(
    name text, ordered boolean DEFAULT false, dead_head text DEFAULT 'skip', key_limit integer DEFAULT NULL,
    key_rate double precision DEFAULT NULL, key_burst integer DEFAULT 1, rank_keys boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.move_waiting(queue, most): moves up to `most` waiting jobs to where they belong, now that the queue is managed or
-- no longer is: from `ready` to `blocked` or back. Answers how many; also counts what runs among what limits count.
CREATE OR REPLACE FUNCTION tandem.move_waiting(queue_name text, most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.resume_key(queue, key): lets a key of an ordered queue go on past the dead letter it stopped behind; the dead letter
-- stays one. Answers whether the key had stopped.
CREATE OR REPLACE FUNCTION tandem.resume_key(queue_name text, key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.why_blocked(job): what admission waits for before it lets a job of a managed queue run, in words; the codes in front
-- are stable: key-halted, key-order, key-limit, not-before, queue-limit, kind-limit, global-limit, turn, slots. NULL: nothing does.
CREATE OR REPLACE FUNCTION tandem.why_blocked(job bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;
