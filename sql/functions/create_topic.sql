-- tandem.create_topic(name, ...): makes a topic and its first partitions; answers its id. A topic that is there stays
-- as it is.
CREATE OR REPLACE FUNCTION tandem.create_topic(
    name text, retention interval DEFAULT '7 days', dedup_window interval DEFAULT '1 day', drop_unread boolean DEFAULT false,
    encrypted boolean DEFAULT false, created_by text DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    made integer;
    current bigint;
BEGIN
    INSERT INTO tandem.topic (name, retention, dedup_window, drop_unread, encrypted, created_at, created_by)
    VALUES (create_topic.name, create_topic.retention, create_topic.dedup_window, create_topic.drop_unread,
            create_topic.encrypted, tandem.clock(), create_topic.created_by)
    ON CONFLICT DO NOTHING RETURNING id INTO made;
    IF made IS NULL THEN
        RETURN (SELECT t.id FROM tandem.topic AS t WHERE t.name = create_topic.name);
    END IF;
    current := (SELECT s.last_value / 1000000000 FROM tandem.message_position AS s);
    PERFORM tandem.add_message_partition(made, n) FROM generate_series(current, current + 2) AS n;
    RETURN made;
END
$$;
