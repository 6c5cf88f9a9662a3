-- tandem.order_topic_group(topic, group, ordered, dead_head): lets a group get its messages in order per key, one of a key
-- at a time, or no longer. Its queue becomes a managed, ordered one: workers and programs that consume claim through
-- admission then. What waits moves over with tandem.move_waiting (the sweep calls it, too).
CREATE OR REPLACE FUNCTION tandem.order_topic_group(topic text, name text, ordered boolean, dead_head text DEFAULT 'skip') RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    target text;
    q tandem.queue;
BEGIN
    UPDATE tandem.topic_group AS g SET ordered = order_topic_group.ordered
    FROM tandem.topic AS t WHERE t.id = g.topic_id AND t.name = topic AND g.name = order_topic_group.name
    RETURNING g.queue INTO target;
    IF target IS NULL THEN
        RAISE EXCEPTION 'topic "%" has no group "%"', topic, name USING ERRCODE = 'undefined_object', HINT = 'See: tandem topics groups.';
    END IF;
    SELECT m.* INTO q FROM tandem.queue AS m WHERE m.name = target FOR UPDATE;
    IF ordered THEN
        PERFORM tandem.manage_queue(target, true, dead_head, q.key_max_running, q.key_rate, coalesce(q.key_burst, 1), coalesce(q.rank_keys, false));
    ELSE
        UPDATE tandem.queue AS m SET managed = false WHERE m.name = target AND m.managed;
    END IF;
    PERFORM tandem.wake_at_commit(tandem.wake_lane(target));
END
$$;
