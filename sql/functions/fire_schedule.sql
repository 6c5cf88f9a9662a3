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
