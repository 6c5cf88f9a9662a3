-- Topics with their rules, the newest position and the estimated number of messages in their logs.
SELECT t.name AS topic, t.retention, t.dedup_window, t.drop_unread, t.encrypted, t.created_at, t.created_by,
       (SELECT max(m."position") FROM tandem.message AS m WHERE m.topic_id = t.id) AS newest,
       (SELECT min(m."position") FROM tandem.message AS m WHERE m.topic_id = t.id) AS oldest,
       (SELECT count(*) FROM tandem.topic_group AS g WHERE g.topic_id = t.id) AS groups,
       (SELECT coalesce(sum(l.messages), 0)::bigint FROM tandem.topic_loss AS l WHERE l.topic_id = t.id) AS lost
FROM tandem.topic AS t WHERE %(topic)s::text IS NULL OR t.name = %(topic)s ORDER BY t.name
