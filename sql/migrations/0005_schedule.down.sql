-- Removes what 0005_schedule made, and puts back what it replaced.
DROP FUNCTION tandem.fire_schedule;
DROP FUNCTION tandem.is_enqueued_here;
DROP FUNCTION tandem.is_dropped;
DROP FUNCTION tandem.wait_for;
DROP FUNCTION tandem.let_go;
DROP FUNCTION tandem.release_dependents;
DROP FUNCTION tandem.awaited_jobs;
DROP FUNCTION tandem.start_by;
DROP FUNCTION tandem.service_stats;
DROP FUNCTION tandem.eta_band;
DROP FUNCTION tandem.run_band;
DROP FUNCTION tandem.jobs_ahead;
DROP FUNCTION tandem.queue_servers;
DROP FUNCTION tandem.eta_servers;
DROP FUNCTION tandem.eta;
DROP FUNCTION tandem.eta_terms;
DROP FUNCTION tandem.global_turns;
DROP FUNCTION tandem.shared_band;
DROP FUNCTION tandem.kinds_ahead;
DROP FUNCTION tandem.kind_servers;
DROP FUNCTION tandem.finish_band;
DROP FUNCTION tandem.queue_eta;

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
CROSS JOIN LATERAL (SELECT c.place IN ('ready', 'scheduled', 'blocked') AS waits, c.place = 'lease' AS runs,
                           c.until <= c.at AS over, coalesce('worker ' || c.worker, 'a worker') AS who) AS n
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
     format('%s runs its try %s%s, or is about to', n.who, c.attempt, CASE WHEN c.alone THEN ' alone' END), c.since,
     c.until),
    (10, c.place = 'blocked', 'blocked-' || c.detail,
     format('it waits for its %s (partition key %s)', c.detail, c.partition_key), c.since, NULL),
    (11, c.place = 'scheduled' AND NOT n.over, 'not-due',
     CASE WHEN c.attempt > 0 AND c.failure <> '' THEN format('the last try failed (%s); the next one', c.failure) ELSE 'it' END
     || ' is not due yet', coalesce(c.failed_at, c.created_at), c.until),
    (12, c.place = 'scheduled' AND n.over, 'due', 'it is due: a sweep makes it ready', c.until, NULL),
    (13, c.place IN ('scheduled', 'lease') AND n.over AND NOT c.swept, 'no-sweeper', 'nobody sweeps: start a worker',
     NULL, NULL),
    (14, n.waits AND c.paused_at IS NOT NULL, 'queue-paused',
     format('queue %s is paused by %s', c.queue, coalesce(c.paused_by, 'somebody')), c.paused_at, NULL),
    (15, n.waits AND NOT c.declared, 'kind-unknown', format('no worker has ever declared the kind %s', c.kind),
     c.created_at, NULL),
    (16, n.waits AND c.slots IS NULL, 'no-worker', format('no live worker serves queue %s', c.queue), c.seen_at, NULL),
    (17, n.waits AND c.suspect, 'suspect', 'its worker died in an earlier try: it runs alone next', c.failed_at, NULL),
    (18, c.place = 'ready', 'waiting', format('%s jobs of queue %s come first; its workers hold %s jobs and have %s slots',
     c.ahead || CASE WHEN c.ahead >= 1000 THEN ' or more' ELSE '' END, c.queue, c.held, coalesce(c.slots, 0)), c.since, NULL)
) AS r(rank, holds, reason, explanation, since, until)
WHERE r.holds ORDER BY r.rank
$$;

DROP TABLE tandem.service_sample, tandem.progress, tandem.start_deadline, tandem.dependency, tandem.dependent, tandem.schedule_tick, tandem.schedule;
CREATE TABLE tandem.schedule (
    name          text COLLATE "C" NOT NULL PRIMARY KEY,
    cron          text        NOT NULL,
    timezone      text        NOT NULL DEFAULT 'UTC',
    kind          text COLLATE "C" NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    payload       jsonb       NOT NULL DEFAULT '{}',
    missed        text        NOT NULL DEFAULT 'coalesce' CONSTRAINT schedule_missed CHECK (missed IN ('coalesce', 'catch_up')),
    paused_at     timestamptz,
    next_fire_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tandem.schedule IS 'Cron entries';
