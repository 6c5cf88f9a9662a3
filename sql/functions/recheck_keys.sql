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
