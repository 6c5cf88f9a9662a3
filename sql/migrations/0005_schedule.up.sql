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
