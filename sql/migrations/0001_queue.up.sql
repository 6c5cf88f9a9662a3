-- The queue's tables. A job is one immutable row in `job` plus exactly one membership row (ready, lease,
-- scheduled, blocked or done) that says where it stands. Frozen: later changes come as later migrations.

CREATE SEQUENCE tandem.job_id AS bigint;
CREATE SEQUENCE tandem.ready_position AS bigint CACHE 1;

CREATE TABLE tandem.job (
    id            bigint      NOT NULL,
    created_at    timestamptz NOT NULL,
    event_id      uuid,
    priority      smallint    NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    kind          text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C",
    payload       jsonb       NOT NULL,
    policy        jsonb,
    context       jsonb,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- What a name looks like is checked by the functions that write jobs (tandem.fits_job), not by constraints.
COMMENT ON TABLE tandem.job IS 'What is to be done: immutable, partitioned by ranges of ids, dropped by retention';
COMMENT ON COLUMN tandem.job.policy IS 'this job''s own max_attempts, timeout_s, ... over those of its kind';
COMMENT ON COLUMN tandem.job.context IS 'request_id, traceparent and the like: carried along, never interpreted by the queue';

CREATE TABLE tandem.ready (
    pos           bigint      NOT NULL,
    job_id        bigint      NOT NULL,
    ready_at      timestamptz NOT NULL,
    priority      smallint    NOT NULL,
    attempt       smallint    NOT NULL,
    crashes       smallint    NOT NULL,
    suspect       boolean     NOT NULL,
    wakes         boolean     NOT NULL DEFAULT false,
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C",
    PRIMARY KEY (queue, priority, pos),
    CONSTRAINT ready_job UNIQUE (job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
COMMENT ON TABLE tandem.ready IS 'Jobs that may be claimed now; pos only grows, whatever re-enters takes a fresh one';
COMMENT ON COLUMN tandem.ready.wakes IS 'the first of its transaction and lane: a deferred trigger wakes the lane at commit';

CREATE TABLE tandem.lease (
    job_id        bigint      NOT NULL PRIMARY KEY,
    token         bigint      NOT NULL,
    worker        uuid        NOT NULL,
    claimed_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    priority      smallint    NOT NULL,
    attempt       smallint    NOT NULL,
    crashes       smallint    NOT NULL,
    suspect       boolean     NOT NULL,
    alone         boolean     NOT NULL DEFAULT false,
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C"
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
CREATE INDEX lease_expires ON tandem.lease (expires_at);
COMMENT ON TABLE tandem.lease IS 'Jobs that a worker holds; every later write must match the random token';

CREATE TABLE tandem.scheduled (
    next_attempt_at timestamptz NOT NULL,
    job_id        bigint      NOT NULL,
    priority      smallint    NOT NULL,
    attempt       smallint    NOT NULL,
    crashes       smallint    NOT NULL,
    suspect       boolean     NOT NULL,
    queue         text COLLATE "C" NOT NULL,
    partition_key text COLLATE "C",
    PRIMARY KEY (next_attempt_at, job_id),
    CONSTRAINT scheduled_job UNIQUE (job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.scheduled IS 'Jobs that are due later: delayed ones and retries';

CREATE TABLE tandem.blocked (
    partition_key text COLLATE "C" NOT NULL,
    priority      smallint    NOT NULL,
    pos           bigint      NOT NULL,
    job_id        bigint      NOT NULL,
    blocked_at    timestamptz NOT NULL,
    attempt       smallint    NOT NULL,
    crashes       smallint    NOT NULL,
    suspect       boolean     NOT NULL,
    waiting_for   text        NOT NULL CONSTRAINT blocked_reason CHECK (waiting_for IN ('limit', 'key', 'job', 'queue')),
    queue         text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition_key, priority, pos),
    CONSTRAINT blocked_job UNIQUE (job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE tandem.blocked IS 'Jobs that wait for a limit, for their key''s turn, or for another job';

CREATE TABLE tandem.done (
    job_id        bigint      NOT NULL,
    token         bigint,
    worker        uuid,
    started_at    timestamptz,
    finished_at   timestamptz NOT NULL,
    attempt       smallint    NOT NULL,
    outcome       text COLLATE "C" NOT NULL CONSTRAINT done_outcome CHECK (outcome IN ('SUCCEEDED', 'DEAD', 'CANCELLED')),
    error_class   text COLLATE "C",
    fingerprint   text COLLATE "C",
    reason        text,
    result        jsonb,
    result_expires_at timestamptz,
    PRIMARY KEY (job_id)
) PARTITION BY RANGE (job_id);
CREATE INDEX done_result_expires ON tandem.done (result_expires_at) WHERE result_expires_at IS NOT NULL;
CREATE INDEX done_dead ON tandem.done (finished_at) WHERE outcome = 'DEAD';
CREATE INDEX done_cancelled ON tandem.done (finished_at) WHERE outcome = 'CANCELLED';
COMMENT ON TABLE tandem.done IS 'Jobs that came to an end; the same ranges of ids as job';

CREATE TABLE tandem.attempt (
    job_id        bigint      NOT NULL,
    attempt       smallint    NOT NULL,
    token         bigint,
    worker        uuid,
    started_at    timestamptz,
    finished_at   timestamptz NOT NULL,
    verdict       text COLLATE "C" NOT NULL CONSTRAINT attempt_verdict
                  CHECK (verdict IN ('RETRY', 'DEAD', 'CANCELLED', 'RESCUED')),
    error_class   text COLLATE "C" NOT NULL,
    fingerprint   text COLLATE "C",
    message       text,
    traceback     text
) PARTITION BY RANGE (job_id);
CREATE INDEX attempt_job ON tandem.attempt (job_id, finished_at);
COMMENT ON TABLE tandem.attempt IS 'Append-only: one row for each try that failed';

CREATE TABLE tandem.unique_key (
    scope         text COLLATE "C" NOT NULL CONSTRAINT unique_key_scope
                  CHECK (scope IN ('pending', 'unfinished', 'period', 'forever')),
    queue         text COLLATE "C" NOT NULL,
    key           text COLLATE "C" NOT NULL CONSTRAINT unique_key_length CHECK (length(key) BETWEEN 1 AND 255),
    job_id        bigint      NOT NULL,
    body_hash     bytea       NOT NULL,
    expires_at    timestamptz,
    PRIMARY KEY (scope, queue, key)
);
CREATE INDEX unique_key_expires ON tandem.unique_key (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE tandem.unique_key IS 'Idempotency keys; outlives the partitions of job';

CREATE TABLE tandem.key (
    key           text COLLATE "C" NOT NULL PRIMARY KEY,
    max_running   integer CONSTRAINT key_max_running CHECK (max_running >= 0),
    weight        real        NOT NULL DEFAULT 1 CONSTRAINT key_weight CHECK (weight > 0),
    strict_order  boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tandem.key IS 'A partition key''s limits and weight: locked by admission, never updated by the hot path';

CREATE TABLE tandem.cancel_intent (
    job_id        bigint      NOT NULL PRIMARY KEY,
    requested_at  timestamptz NOT NULL,
    requested_by  text,
    reason        text
);
COMMENT ON TABLE tandem.cancel_intent IS 'Cancel requests: checked by claim, retry, rescue and promotion';

CREATE TABLE tandem.queue (
    name          text COLLATE "C" NOT NULL PRIMARY KEY,
    weight        real        NOT NULL DEFAULT 1 CONSTRAINT queue_weight CHECK (weight > 0),
    paused_at     timestamptz,
    paused_by     text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tandem.queue IS 'Declared queues with their weights; a queue with paused_at is not claimed from';

CREATE TABLE tandem.kind (
    name          text COLLATE "C" NOT NULL PRIMARY KEY,
    max_attempts  smallint    NOT NULL,
    crash_limit   smallint    NOT NULL,
    hooked        boolean     NOT NULL,
    declared_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tandem.kind IS 'Kinds as the workers declare them; a sweeper that lacks a hooked kind''s hook leaves its jobs alone';

CREATE TABLE tandem.worker (
    id            uuid        NOT NULL PRIMARY KEY,
    name          text        NOT NULL,
    mode          text        NOT NULL,
    queues        text[]      NOT NULL,
    concurrency   integer     NOT NULL,
    version       text        NOT NULL,
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    stopped_at    timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.worker IS 'One row per worker process start; for people, never for deciding what is alive';

CREATE TABLE tandem.leader (
    name          text COLLATE "C" NOT NULL PRIMARY KEY,
    holder        uuid        NOT NULL,
    token         bigint      NOT NULL,
    acquired_at   timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.leader IS 'Leadership is a leased row: an advisory lock would also be granted on a standby';

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

CREATE TABLE tandem.lane_floor (
    queue         text COLLATE "C" NOT NULL,
    priority      smallint    NOT NULL,
    floor         bigint      NOT NULL,
    PRIMARY KEY (queue, priority, floor)
);
COMMENT ON TABLE tandem.lane_floor IS
    'Safe floors, append-only: the highest row of a lane counts; nothing below it can be ready any more';

CREATE UNLOGGED TABLE tandem.wake_request (lane integer NOT NULL);
COMMENT ON TABLE tandem.wake_request IS 'A row lives inside one transaction: its deferred trigger wakes the lane at commit';

CREATE TABLE tandem.job_kept PARTITION OF tandem.job DEFAULT;
CREATE TABLE tandem.done_kept PARTITION OF tandem.done DEFAULT;
CREATE TABLE tandem.attempt_kept PARTITION OF tandem.attempt DEFAULT;

CREATE VIEW tandem.job_status AS
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
SELECT m.job_id, j.kind, m.queue, 'PENDING', m.waiting_for, m.attempt, m.crashes, m.priority, m.partition_key, m.blocked_at,
       NULL, NULL, NULL, NULL, NULL, NULL, j.created_at, j.event_id
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
