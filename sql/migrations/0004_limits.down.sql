-- Removes managed queues: whatever waits in one becomes ready. Functions and tables are again those of 0001 and 0003.
INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
SELECT nextval('tandem.ready_position'), job_id, blocked_at, priority, attempt, crashes, suspect, queue, nullif(partition_key, '')
FROM (SELECT * FROM tandem.blocked ORDER BY band DESC, pos) AS b;
DELETE FROM tandem.blocked;
DROP FUNCTION tandem.why_blocked;
DROP FUNCTION tandem.resume_key;
DROP FUNCTION tandem.move_waiting;
DROP FUNCTION tandem.manage_queue;
DROP FUNCTION tandem.clear_limit;
DROP FUNCTION tandem.set_limit;
DROP FUNCTION tandem.recheck_keys;
DROP FUNCTION tandem.admit_jobs;
DROP FUNCTION tandem.close_admission;
DROP FUNCTION tandem.open_admission;
DROP FUNCTION tandem.finish_leases;
DROP FUNCTION tandem.admit_pass;
DROP FUNCTION tandem.count_room;
DROP FUNCTION tandem.hear_touches;
DROP FUNCTION tandem.place_turns;
DROP FUNCTION tandem.kept_in_sight;
DROP FUNCTION tandem.choose_jobs;
DROP FUNCTION tandem.next_in_line;
DROP FUNCTION tandem.open_turns;
DROP FUNCTION tandem.head_waits;
DROP FUNCTION tandem.count_leases;
DROP FUNCTION tandem.find_heads;
DROP FUNCTION tandem.key_terms;
DROP FUNCTION tandem.next_mean;
DROP FUNCTION tandem.next_vtime;
DROP FUNCTION tandem.covers;
DROP FUNCTION tandem.lowest_by_band;
DROP FUNCTION tandem.take_rate;
DROP FUNCTION tandem.block_job;
DROP FUNCTION tandem.block_jobs;
DROP TABLE tandem.key, tandem.touch, tandem.turn, tandem.admission, tandem.halted, tandem.concurrency_limit, tandem.rate;
ALTER TABLE tandem.lease DROP COLUMN slot, DROP COLUMN kind, DROP COLUMN exempt, DROP COLUMN charged_ms;
ALTER TABLE tandem.queue DROP COLUMN managed, DROP COLUMN ordered, DROP COLUMN dead_head, DROP COLUMN max_running,
    DROP COLUMN key_max_running, DROP COLUMN key_rate, DROP COLUMN key_burst, DROP COLUMN rank_keys, DROP COLUMN age_after,
    DROP COLUMN age_step, DROP COLUMN age_most;

CREATE TABLE tandem.key (
    key           text COLLATE "C" NOT NULL PRIMARY KEY,
    max_running   integer CONSTRAINT key_max_running CHECK (max_running >= 0),
    weight        real        NOT NULL DEFAULT 1 CONSTRAINT key_weight CHECK (weight > 0),
    strict_order  boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tandem.key IS 'A partition key''s limits and weight: locked by admission, never updated by the hot path';

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

ALTER TABLE tandem.blocked
    DROP CONSTRAINT blocked_pkey, DROP CONSTRAINT blocked_reason, DROP COLUMN lane, DROP COLUMN band, DROP COLUMN not_before,
    ADD CONSTRAINT blocked_reason CHECK (waiting_for IN ('limit', 'key', 'job', 'queue')),
    ADD PRIMARY KEY (partition_key, priority, pos);

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
