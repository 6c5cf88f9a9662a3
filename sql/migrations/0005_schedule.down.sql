-- Removes what 0005_schedule made.
DROP FUNCTION tandem.fire_schedule(text, timestamptz, timestamptz[], timestamptz);
DROP TABLE tandem.schedule_tick, tandem.schedule;
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
