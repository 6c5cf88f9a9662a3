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
