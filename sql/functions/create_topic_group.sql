-- tandem.create_topic_group(topic, name, ...): makes a consumer group that gets every message from now on, and, when
-- from_position is given, those of the log from there on. Answers its id; a group that is there stays as it is.
-- Publishers that run now may not know the group: the fill made here delivers what they commit later, exactly once.
-- `ordered`: strict order per key; a dead letter is passed over or stops its key (dead_head skip or block).
CREATE OR REPLACE FUNCTION tandem.create_topic_group(
    topic text, name text, from_position bigint DEFAULT NULL, max_attempts integer DEFAULT 5, retry_delay_ms integer DEFAULT 2000,
    backoff text DEFAULT 'exponential', ordered boolean DEFAULT false, created_by text DEFAULT NULL,
    dead_head text DEFAULT 'skip'
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    target tandem.topic;
    made integer;
    queue text := tandem.topic_queue(topic, name);
BEGIN
    SELECT t.* INTO target FROM tandem.topic AS t WHERE t.name = create_topic_group.topic FOR NO KEY UPDATE;
    IF target.id IS NULL THEN
        RAISE EXCEPTION 'there is no topic "%"', topic USING ERRCODE = 'undefined_object', HINT = 'Make it with: tandem topics create.';
    END IF;
    made := (SELECT g.id FROM tandem.topic_group AS g WHERE g.topic_id = target.id AND g.name = create_topic_group.name);
    IF made IS NOT NULL THEN
        RETURN made;
    END IF;
    UPDATE tandem.topic SET version = version + 1 WHERE id = target.id;
    INSERT INTO tandem.queue (name, created_at) VALUES (queue, tandem.clock()) ON CONFLICT DO NOTHING;
    INSERT INTO tandem.topic_group (topic_id, name, queue, version, start_position, max_attempts, retry_delay_ms, backoff, ordered,
                                    created_at, created_by)
    SELECT target.id, create_topic_group.name, queue, target.version + 1, coalesce(from_position, s.last_value + 1),
           create_topic_group.max_attempts, create_topic_group.retry_delay_ms, create_topic_group.backoff,
           create_topic_group.ordered, tandem.clock(), create_topic_group.created_by
    FROM tandem.message_position AS s RETURNING id INTO made;
    INSERT INTO tandem.topic_fill (group_id, reason, from_position, to_position, cursor, snapshot, history_done, requested_at, requested_by)
    SELECT made, 'start', coalesce(from_position, s.last_value + 1), s.last_value, coalesce(from_position, s.last_value + 1) - 1,
           pg_current_snapshot(), from_position IS NULL, tandem.clock(), create_topic_group.created_by
    FROM tandem.message_position AS s;
    IF ordered THEN
        PERFORM tandem.order_topic_group(topic, name, true, dead_head);
    END IF;
    RETURN made;
END
$$;
