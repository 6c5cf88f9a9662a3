-- Cron schedules, dependencies, progress, start deadlines, service rates.

-- --- cron ---------------------------------------------------------------------------------------------------------
DROP TABLE tandem.schedule;
CREATE TABLE tandem.schedule (
    name          text COLLATE "C" NOT NULL PRIMARY KEY CONSTRAINT schedule_name CHECK (name ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    cron          text        NOT NULL,
    timezone      text        NOT NULL DEFAULT 'UTC',
    kind          text COLLATE "C" NOT NULL CONSTRAINT schedule_kind CHECK (kind ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    queue         text COLLATE "C" NOT NULL DEFAULT 'default' CONSTRAINT schedule_queue CHECK (queue ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    payload       jsonb       NOT NULL DEFAULT '{}',
    priority      smallint    NOT NULL DEFAULT 5 CONSTRAINT schedule_priority CHECK (priority BETWEEN 0 AND 9),
    partition_key text COLLATE "C",
    missed        text        NOT NULL DEFAULT 'coalesce' CONSTRAINT schedule_missed CHECK (missed IN ('coalesce', 'catch_up')),
    overlap       boolean     NOT NULL DEFAULT true,
    source        text        NOT NULL DEFAULT 'operator' CONSTRAINT schedule_source CHECK (source IN ('code', 'operator')),
    paused_at     timestamptz,
    paused_by     text,
    next_tick_at  timestamptz NOT NULL,
    last_tick_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.schedule IS 'Cron entries; whoever moves next_tick_at on makes the jobs of the ticks it passes';

CREATE TABLE tandem.schedule_tick (
    schedule      text COLLATE "C" NOT NULL,
    tick          timestamptz NOT NULL,
    job_id        bigint      NOT NULL,
    fired_at      timestamptz NOT NULL,
    PRIMARY KEY (schedule, tick)
);
COMMENT ON TABLE tandem.schedule_tick IS 'One row per tick that fired, and the job it made';

-- --- dependencies -------------------------------------------------------------------------------------------------
CREATE TABLE tandem.dependent (
    job_id        bigint      NOT NULL PRIMARY KEY,
    held_at       timestamptz NOT NULL,
    run_at        timestamptz,
    priority      smallint    NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C",
    on_failure    text        NOT NULL CONSTRAINT dependent_on_failure CHECK (on_failure IN ('cancel', 'run', 'wait'))
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.dependent IS 'Jobs that wait for other jobs to end: a membership like ready';

CREATE TABLE tandem.dependency (
    after_job     bigint      NOT NULL,
    job_id        bigint      NOT NULL,
    PRIMARY KEY (after_job, job_id),
    -- Ids only grow and a job may only wait for earlier ones: there is no way to close a circle.
    CONSTRAINT dependency_order CHECK (after_job < job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX dependency_job ON tandem.dependency (job_id);
COMMENT ON TABLE tandem.dependency IS 'What a dependent still waits for: one row per job that has not ended well yet';

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
SELECT m.job_id, j.kind, m.queue, 'PENDING', 'job', 0::smallint, 0::smallint, m.priority, m.partition_key, m.held_at,
       NULL, NULL, NULL, NULL, NULL, NULL, j.created_at, j.event_id
FROM tandem.dependent AS m LEFT JOIN tandem.job AS j ON j.id = m.job_id
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

-- --- start deadlines ----------------------------------------------------------------------------------------------
CREATE TABLE tandem.start_deadline (
    start_by      timestamptz NOT NULL,
    job_id        bigint      NOT NULL,
    PRIMARY KEY (start_by, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.start_deadline IS 'Jobs that expire if they have not started by then; a row lives until that time';

-- --- progress -----------------------------------------------------------------------------------------------------
CREATE TABLE tandem.progress (
    job_id        bigint      NOT NULL PRIMARY KEY,
    attempt       smallint    NOT NULL,
    percent       real        NOT NULL CONSTRAINT progress_percent CHECK (percent BETWEEN 0 AND 100),
    stage         text        NOT NULL,
    updated_at    timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.progress IS 'How far a try says that it is: written at most once a second by who holds the lease';

-- --- service rates ------------------------------------------------------------------------------------------------
CREATE TABLE tandem.service_sample (
    at            timestamptz NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    kind          text COLLATE "C" NOT NULL,
    tries         bigint      NOT NULL,
    ran_ms        float8      NOT NULL,
    squares       float8      NOT NULL
);
CREATE INDEX service_sample_queue ON tandem.service_sample (queue, at);
CREATE INDEX service_sample_at ON tandem.service_sample (at);
COMMENT ON TABLE tandem.service_sample IS 'How long tries ran: sums of a few seconds of one worker, appended; for the ETA';

-- --- functions ----------------------------------------------------------------------------------------------------

-- tandem.fire_schedule(name, expected, ticks, next): makes the jobs of these ticks and moves the schedule on to `next`; answers
-- each tick with its job. Internal: a sweeper calls it with ticks that it has computed. Exactly once, however many call: only
-- the one that finds `expected` still to come moves the row, and a tick has one row for ever, whatever the clock does.
CREATE OR REPLACE FUNCTION tandem.fire_schedule(
    name text, expected timestamptz, ticks timestamptz[], next timestamptz
) RETURNS TABLE (tick timestamptz, job_id bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.is_enqueued_here(job): whether the transaction that asks, or a savepoint of it, has written the job. Internal.
-- A row that we see and whose transaction is still in progress can only be our own. Rows hold the lower 32 bits of its id.
CREATE OR REPLACE FUNCTION tandem.is_enqueued_here(job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce((
    SELECT pg_xact_status((x.near + CASE WHEN x.near - x.ours > 2147483648 THEN -4294967296
                                         WHEN x.ours - x.near > 2147483648 THEN 4294967296 ELSE 0 END)::text::xid8) = 'in progress'
    FROM (SELECT c.ours, (c.ours >> 32 << 32) + j.xmin::text::bigint AS near
          FROM tandem.job AS j, (SELECT pg_current_xact_id()::text::bigint AS ours) AS c WHERE j.id = $1) AS x), false)
$$;

-- tandem.is_dropped(job): whether the id lies in a partition that retention has dropped: such a job has ended. Internal.
CREATE OR REPLACE FUNCTION tandem.is_dropped(job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN job > 0 AND to_regclass('tandem.job_' || job / 100000000) IS NULL AND job <= (SELECT s.last_value FROM tandem.job_id AS s);

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

-- tandem.let_go(jobs, at): those of these dependents that wait for nothing any more take their place in their queues, or wait
-- for their time; answers them. Internal: release_dependents calls it, with the dependents' rows locked.
CREATE OR REPLACE FUNCTION tandem.let_go(jobs bigint[], at timestamptz) RETURNS TABLE (job_id bigint, queue text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.release_dependents(parents): draws the consequences for those who wait for these jobs, which have ended; answers each
-- dependent that may run now, and each that shall be cancelled (`doomed`), for which a cancel request is left. Internal.
-- The dependents' rows are locked before their dependencies are counted, in statements of their own: of two sweeps that
-- each see the other's last dependency, the later one releases the job.
CREATE OR REPLACE FUNCTION tandem.release_dependents(parents bigint[])
RETURNS TABLE (job_id bigint, queue text, doomed boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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

-- tandem.holds_unique_key(scope, job): whether the job is still within its key's scope. Internal.
-- VOLATILE on purpose: the upsert may have waited for the first job's commit, which the statement's own snapshot lacks.
CREATE OR REPLACE FUNCTION tandem.holds_unique_key(scope text, job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN CASE scope
    WHEN 'unfinished' THEN NOT EXISTS (SELECT FROM tandem.done AS d WHERE d.job_id = job)
                           AND EXISTS (SELECT FROM tandem.job AS j WHERE j.id = job)
    WHEN 'pending' THEN EXISTS (SELECT FROM tandem.ready AS r WHERE r.job_id = job)
                        OR EXISTS (SELECT FROM tandem.scheduled AS s WHERE s.job_id = job)
                        OR EXISTS (SELECT FROM tandem.dependent AS w WHERE w.job_id = job)
                        OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.job_id = job)
    ELSE true END;

-- tandem.partition_survivors(number, before, most): ids of a partition that must outlive it: jobs that have not ended,
-- jobs that others wait for, and jobs that ended after `before`. NULL when the partition is not old enough (its newest job is younger than
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
            UNION SELECT w.job_id FROM tandem.dependent AS w WHERE w.job_id >= first AND w.job_id < past
            UNION SELECT n.after_job FROM tandem.dependency AS n WHERE n.after_job >= first AND n.after_job < past
            UNION SELECT d.job_id FROM tandem.done AS d WHERE d.job_id >= first AND d.job_id < past AND d.finished_at > before
        ) AS u LIMIT most + 1) AS s;
    RETURN CASE WHEN cardinality(survivors) <= most THEN survivors END;
END
$$;

-- tandem.drop_partition(number, survivors): drops a partition of job, done and attempt; the survivors move to the
-- default partitions (job_kept, ...), so that one of them never holds back the drop. Waits at most lock_timeout.
-- A job that came back meanwhile (a redrive) raises object_in_use (55006): nothing is dropped.
CREATE OR REPLACE FUNCTION tandem.drop_partition(number bigint, survivors bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
$$;

-- tandem.awaited_jobs(job): in words, what a dependent still waits for. Internal: for tandem.explain.
CREATE OR REPLACE FUNCTION tandem.awaited_jobs(job bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT format('job %s', string_agg(format('%s (%s)', d.after_job, coalesce(
           (SELECT s.status FROM tandem.job_status AS s WHERE s.job_id = d.after_job), 'gone')), ', ' ORDER BY d.after_job)
           FILTER (WHERE d.number <= 3))
       || CASE WHEN count(*) > 3 THEN format(' and %s%s more', least(count(*), 1000) - 3, CASE WHEN count(*) > 1000 THEN ' or' END) ELSE '' END
FROM (SELECT n.after_job, row_number() OVER (ORDER BY n.after_job) AS number
      FROM (SELECT l.after_job FROM tandem.dependency AS l WHERE l.job_id = $1 LIMIT 1001) AS n) AS d
$$;

-- tandem.start_by(job, deadline): lets a job that this transaction has just enqueued expire, as a dead letter of class
-- `expired`, if its first try has not started by then; answers its id.
CREATE OR REPLACE FUNCTION tandem.start_by(job bigint, deadline timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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

-- tandem.job_circumstances(job): one row with all that tandem.explain decides on, whatever the id. Internal.
-- `place` is where the job stands (NULL: nowhere); `slots` are those of workers seen within a minute on its queue;
-- `held` the leases of its queue; `ahead` the ready jobs before it, from the safe floors, counted to 1,000.
CREATE OR REPLACE FUNCTION tandem.job_circumstances(job bigint) RETURNS TABLE (
    at timestamptz, place text, queue text, priority smallint, attempt smallint, suspect boolean, alone boolean,
    since timestamptz, until timestamptz, worker text, detail text, created_at timestamptz, kind text, declared boolean,
    hooked boolean, partition_key text, paused_at timestamptz, paused_by text, cancel_at timestamptz, cancel_by text,
    cancel_why text, slots bigint, seen_at timestamptz, held bigint, ahead bigint, failed_at timestamptz, failure text,
    swept boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.explain(job): why a job does not run, or how it ended: a row per reason, the one that matters most first.
-- Answers at least one row for any id. `reason` is stable, for programs; `since` and `until` where they are known.
CREATE OR REPLACE FUNCTION tandem.explain(job bigint)
RETURNS TABLE (reason text, explanation text, since timestamptz, until timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.service_stats(queue): how long tries of a queue ran in the last ten minutes, by kind, in seconds; kind NULL is all of
-- them. `busy` is how many ran at once on average since the first sample of that time. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.service_stats(queue text)
RETURNS TABLE (kind text, tries bigint, mean float8, deviation float8, busy float8)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.kind, sum(s.tries)::bigint, sum(s.ran_ms) / sum(s.tries) / 1000,
       sqrt(greatest(0, sum(s.squares) / sum(s.tries) - (sum(s.ran_ms) / sum(s.tries)) ^ 2)) / 1000,
       sum(s.ran_ms) / 1000 / greatest(5, extract(epoch FROM max(c.at) - min(s.at))::float8 + 5)
FROM (SELECT tandem.clock() AS at) AS c
JOIN tandem.service_sample AS s ON s.queue = $1 AND s.at > c.at - interval '10 minutes' AND s.tries > 0
GROUP BY GROUPING SETS ((s.kind), ())
HAVING sum(s.tries) > 0
$$;

-- tandem.eta_band(starts, servers, mean, deviation, tries): seconds until so many jobs have been started by `servers` at once, all
-- of them busy, from the mean and standard deviation of `tries` runs: expected, and an 80 % band. Internal: for the ETA.
-- The sum of many runs is nearly normal (central limit theorem); so is the error of the mean. Taken as log-normal, so that
-- no bound is below zero. The servers are somewhere within their runs: even ones end half a run sooner than after a whole one.
-- How many they end by then varies as in an equilibrium renewal process (Cox, Renewal Theory, 1962): cv^2 for each, and for each
-- server 1/6 + cv^4/2 - skewness/3, here of log-normal runs; uneven runs of many servers at the least like chance (Poisson).
-- 1.2816: the normal 90th percentile.
CREATE OR REPLACE FUNCTION tandem.eta_band(starts float8, servers float8, mean float8, deviation float8, tries bigint)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT b.wait, CASE WHEN b.wait > 0 THEN exp(ln(b.wait) - b.s2 / 2 - 1.2816 * sqrt(b.s2)) ELSE 0 END,
       CASE WHEN b.wait > 0 THEN exp(ln(b.wait) - b.s2 / 2 + 1.2816 * sqrt(b.s2)) ELSE 0 END
FROM (SELECT a.wait, CASE WHEN a.wait > 0 THEN ln(1 + a.variance / a.wait ^ 2) ELSE 0 END AS s2
      FROM (SELECT w.wait, (w.wait * deviation / mean) ^ 2 / greatest(tries, 1) + (mean / servers) ^ 2 * greatest(
                       starts * least(1, w.cv2), starts * w.cv2 + servers * (1 / 6.0 - w.cv2 ^ 2 / 2 - w.cv2 ^ 3 / 3)) AS variance
            FROM (SELECT greatest(0, starts - greatest(0, 1 - (deviation / mean) ^ 2) / 2) * mean / servers AS wait,
                         (deviation / mean) ^ 2 AS cv2) AS w) AS a) AS b
$$;

-- tandem.run_band(mean, deviation): how many seconds one run takes: expected, and an 80 % band, log-normal. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.run_band(mean float8, deviation float8)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT mean, CASE WHEN mean > 0 THEN exp(ln(mean) - s2 / 2 - 1.2816 * sqrt(s2)) ELSE 0 END,
       CASE WHEN mean > 0 THEN exp(ln(mean) - s2 / 2 + 1.2816 * sqrt(s2)) ELSE 0 END
FROM (SELECT CASE WHEN mean > 0 THEN ln(1 + (deviation / mean) ^ 2) ELSE 0 END AS s2) AS a
$$;

-- tandem.jobs_ahead(job): how many jobs come before one that is ready or blocked: exact up to 10,000, then estimated from how
-- densely positions are taken. In a managed queue those of its own key. NULL when it waits for something else. Internal.
CREATE OR REPLACE FUNCTION tandem.jobs_ahead(job bigint) RETURNS TABLE (ahead bigint, exact boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.queue_servers(queue, busy): how many jobs of a queue can run at once: what its workers were seen to run (`busy`), or
-- their slots divided among the queues that have work; at most its limit. NULL without a live worker. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.queue_servers(queue text, busy float8) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN count(*) > 0 THEN least(greatest(coalesce(busy, 0), sum(w.concurrency::float8 / greatest(1, o.queues))),
                                         sum(w.concurrency), max(m.most)) END
FROM tandem.worker AS w CROSS JOIN (SELECT tandem.clock() AS at) AS c
LEFT JOIN LATERAL (
    SELECT count(*) AS queues FROM unnest(w.queues) AS q(name)
    WHERE q.name = $1 OR EXISTS (SELECT FROM tandem.ready AS r WHERE r.queue = q.name)
       OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.queue = q.name)) AS o ON true
LEFT JOIN LATERAL (SELECT l.max_running::float8 AS most FROM tandem.queue AS l WHERE l.name = $1 AND l.managed) AS m ON true
WHERE $1 = ANY (w.queues) AND w.stopped_at IS NULL AND w.seen_at > c.at - interval '1 minute'
$$;

-- tandem.kind_servers(kind): how many jobs of a kind one key can run at once by the kind's own limit: its equal part among the keys
-- that wait with jobs of it (counted to 100 a queue). NULL where the kind has no limit. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.kind_servers(kind text) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.max_running::float8 / greatest(1, (
    SELECT sum(n.turns) FROM tandem.queue AS q CROSS JOIN LATERAL (
        SELECT count(*) AS turns FROM (SELECT FROM tandem.turn AS t WHERE t.queue = q.name AND t.shelf = $1 AND t.eligible
                                       LIMIT 100) AS t) AS n
    WHERE q.managed))
FROM tandem.concurrency_limit AS c WHERE c.name = 'kind:' || $1
$$;

-- tandem.global_turns(queue, exempt, servers): how many jobs of a queue can run at once under the global limit, and seconds of work of
-- other queues that come first. A slot that ends is refilled by the queue that held it, in the same transaction; so a queue either
-- keeps to the slots it holds, or waits until the others have nothing left: what is sooner counts, so both are a row where others
-- wait. Without a global limit, or where it does not count: `servers`, and nothing first. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.global_turns(queue text, exempt boolean, servers float8)
RETURNS TABLE (servers float8, others float8)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.eta_servers(queue, key, kind, servers): how many jobs can run at once before a job of this key: of so many, in a managed
-- queue its key's share among the keys that wait (counted to 100; exempt keys go before the others), at most the key's limit.
-- In an ordered queue the kind's limit counts too; elsewhere see tandem.eta_terms. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.eta_servers(queue text, partition_key text, kind text, servers float8) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.finish_band(wait, low, high, mean, deviation): seconds until the end of a job that waits as tandem.eta_band says and then
-- runs so long: expected, and an 80 % band. Internal: for the ETA. Wait and run are independent, so their variances add; the sum
-- is taken as log-normal (Fenton and Wilkinson, 1960). The wait's variance is that of its band; 2.5631 is twice 1.2816.
CREATE OR REPLACE FUNCTION tandem.finish_band(wait float8, wait_low float8, wait_high float8, mean float8, deviation float8)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT b.expected, b.low, b.high
FROM tandem.run_band(wait + mean, sqrt(deviation ^ 2 + CASE WHEN wait_low > 0
     THEN (wait ^ 2 * (exp((ln(wait_high / wait_low) / 2.5631) ^ 2) - 1)) ELSE 0 END)) AS b
$$;

-- tandem.kinds_ahead(job): the kinds of the jobs of its key that come before a blocked job of an unordered queue (looked up to 10,000
-- jobs), and its own: how many, how many of the key run, how long one runs, and how many of them may run at once (NULL: as many as
-- there are slots). Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.kinds_ahead(job bigint) RETURNS TABLE (
    kind text, jobs bigint, running bigint, mean float8, deviation float8, most float8, room bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.eta_terms(job, starts, first, servers, mean, deviation, tries): what tandem.eta_band is asked for a job: these terms, but
-- where limits of kinds hold in an unordered managed queue one row for its turn and one for its kind's limit, of which the later
-- time counts. `first`: starts that come before all of the queue. Internal: for the ETA. Jobs ahead flow as a fluid: a kind is held back by its limit when its work takes longer under
-- it than all the work in all slots; it then keeps its limit's slots, and the others share what remains (twice: fewer slots, more kinds).
CREATE OR REPLACE FUNCTION tandem.eta_terms(job bigint, starts float8, first float8, servers float8, mean float8, deviation float8, tries bigint)
RETURNS TABLE (starts float8, servers float8, mean float8, deviation float8, tries bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;

-- tandem.shared_band(expected, low, high, shared): the band of a wait as tandem.eta_band says it, wider where slots are shared under a
-- global limit or limits of kinds: who gets the next one also depends on what comes to the other keys, kinds and queues meanwhile.
-- Measured on scripts/limit_calibration.py: 0.4 of the wait as standard deviation more, log-normal. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.shared_band(expected float8, low float8, high float8, shared boolean)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT $1, CASE WHEN $4 AND $2 > 0 THEN exp(ln($1) - b.s2 / 2 - 1.2816 * sqrt(b.s2)) ELSE $2 END,
       CASE WHEN $4 AND $2 > 0 THEN exp(ln($1) - b.s2 / 2 + 1.2816 * sqrt(b.s2)) ELSE $3 END
FROM (SELECT CASE WHEN $2 > 0 THEN (ln($3 / $2) / 2.5631) ^ 2 + ln(1 + 0.4 ^ 2) END AS s2) AS b
$$;

-- tandem.eta(job): when a waiting or running job is expected to start and to end, with 80 % bands, from how long tries of its
-- queue and kind ran in the last ten minutes. One row for any job that has not ended. Where nothing can be said the times
-- are NULL and `basis` says why: no-samples, no-worker, queue-paused, limit-is-zero, waits-for-jobs; else rates, or running.
CREATE OR REPLACE FUNCTION tandem.eta(job bigint) RETURNS TABLE (
    basis text, "position" bigint, position_exact boolean, start_at timestamptz, start_low timestamptz, start_high timestamptz,
    finish_at timestamptz, finish_low timestamptz, finish_high timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
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
$$;

-- tandem.queue_eta(queue): when what waits in a queue now will have been started, with an 80 % band; how many wait (exact up to
-- 10,000), and how many can run at once. `basis` as in tandem.eta. Where limits of kinds hold, the latest of the whole and each
-- limited kind (looked up to 10,000 jobs).
CREATE OR REPLACE FUNCTION tandem.queue_eta(queue text) RETURNS TABLE (
    basis text, waiting bigint, waiting_exact boolean, servers float8, mean_seconds float8, drained_at timestamptz,
    drained_low timestamptz, drained_high timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
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
$$;
