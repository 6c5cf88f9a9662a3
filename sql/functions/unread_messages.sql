-- tandem.unread_messages(topic_id, first, past): for each group, how many messages in [first, past) it has yet to
-- handle: deliveries that wait or run, and what open fills have not delivered.
CREATE OR REPLACE FUNCTION tandem.unread_messages(topic_id integer, first bigint, past bigint)
RETURNS TABLE (group_id integer, messages bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT g.id, (
    SELECT count(*) FROM (
        SELECT r.job_id FROM tandem.ready AS r WHERE r.queue = g.queue
        UNION ALL SELECT l.job_id FROM tandem.lease AS l WHERE l.queue = g.queue
        UNION ALL SELECT s.job_id FROM tandem.scheduled AS s WHERE s.queue = g.queue
        UNION ALL SELECT b.job_id FROM tandem.blocked AS b WHERE b.queue = g.queue) AS m
    JOIN tandem.job AS j ON j.id = m.job_id
    WHERE (j.payload ->> 'position')::bigint >= first AND (j.payload ->> 'position')::bigint < past
) + (
    SELECT count(*) FROM tandem.topic_fill AS f JOIN tandem.message AS m ON m.topic_id = g.topic_id
    WHERE f.group_id = g.id AND f.finished_at IS NULL AND NOT f.history_done AND m."position" >= first AND m."position" < past
      AND m."position" > f.cursor AND m."position" <= f.to_position)
FROM tandem.topic_group AS g WHERE g.topic_id = unread_messages.topic_id
$$;
