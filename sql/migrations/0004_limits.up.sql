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
    ADD COLUMN rank_keys boolean NOT NULL DEFAULT false;
CREATE INDEX queue_managed ON tandem.queue (name) WHERE managed;
COMMENT ON COLUMN tandem.queue.managed IS 'its jobs wait in blocked and are admitted under limits, order and fairness';
COMMENT ON COLUMN tandem.queue.ordered IS 'strict order: one job of a key at a time, first in first out; a retry keeps its place';
COMMENT ON COLUMN tandem.queue.dead_head IS 'ordered queues: whether a key goes on past a dead letter (skip) or stops (block)';
COMMENT ON COLUMN tandem.queue.key_max_running IS 'how many jobs of one key may run at once, unless tandem.key says otherwise';
COMMENT ON COLUMN tandem.queue.key_rate IS 'how many jobs of one key may start per second, key_burst of them at once';
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
    PRIMARY KEY (queue, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.admission IS 'What the admission of a queue remembers; the highest seq counts';
COMMENT ON COLUMN tandem.admission.starts IS 'for each shelf and rank the lowest vtime of an eligible turn';

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
CREATE INDEX lease_key_slot ON tandem.lease (queue, partition_key, slot) WHERE slot IS NOT NULL;
CREATE INDEX lease_slot ON tandem.lease (queue, slot) WHERE slot IS NOT NULL;
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
    at timestamptz;
    copied bigint[];
    managed text[] := ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed);
    waiting bigint;
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
    IF octet_length(payload::text) > 262144 THEN
        RAISE EXCEPTION 'payload of % bytes is over the limit of 262144', octet_length(payload::text)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and enqueue its key.';
    END IF;
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
