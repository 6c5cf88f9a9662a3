-- tandem.wake_batch_at_commit(queues): wakes who serves these queues when the calling transaction commits: two sleepers of
-- each, or for many queues all sleepers of their lanes, of which there are 32. Names may repeat.
CREATE OR REPLACE FUNCTION tandem.wake_batch_at_commit(queues text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names CONSTANT text[] := ARRAY(SELECT DISTINCT q FROM unnest(queues) AS q);
    lanes CONSTANT integer[] := ARRAY(SELECT DISTINCT tandem.wake_lane(q) FROM unnest(names) AS q);
BEGIN
    IF cardinality(names) <= 8 THEN
        PERFORM tandem.wake_queue_at_commit(q) FROM unnest(names) AS q;
    ELSE
        PERFORM tandem.wake_at_commit(l) FROM unnest(lanes) AS l;
    END IF;
END
$$;
