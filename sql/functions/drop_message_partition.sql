-- tandem.drop_message_partition(topic_id, number): drops one partition of a topic's log when its newest message is past
-- the topic's retention. Answers 'young', 'unread' (a group has not handled all of it, and the topic keeps such
-- messages), or 'dropped'; what groups lose is counted in topic_loss. Waits at most lock_timeout.
CREATE OR REPLACE FUNCTION tandem.drop_message_partition(topic_id integer, number bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    target tandem.topic;
    first bigint := number * 1000000000;
    past bigint := (number + 1) * 1000000000;
    child text := format('message_%s_%s', topic_id, number);
    unread record;
BEGIN
    SELECT t.* INTO target FROM tandem.topic AS t WHERE t.id = drop_message_partition.topic_id;
    IF (SELECT s.last_value < past FROM tandem.message_position AS s) OR EXISTS (
        SELECT FROM (SELECT m.published_at FROM tandem.message AS m WHERE m.topic_id = target.id AND m."position" >= first
                     AND m."position" < past ORDER BY m."position" DESC LIMIT 1) AS newest
        WHERE newest.published_at > tandem.clock() - target.retention) THEN
        RETURN 'young';
    END IF;
    EXECUTE format('LOCK TABLE tandem.%I IN ACCESS EXCLUSIVE MODE', child);
    FOR unread IN SELECT u.group_id, u.messages FROM tandem.unread_messages(target.id, first, past) AS u WHERE u.messages > 0 LOOP
        IF NOT target.drop_unread THEN
            RETURN 'unread';
        END IF;
        INSERT INTO tandem.topic_loss (topic_id, group_id, at, messages)
        VALUES (target.id, unread.group_id, tandem.clock(), unread.messages);
    END LOOP;
    EXECUTE format('ALTER TABLE tandem.%I DETACH PARTITION tandem.%I', 'message_' || target.id, child);
    EXECUTE format('DROP TABLE tandem.%I', child);
    RETURN 'dropped';
END
$$;
