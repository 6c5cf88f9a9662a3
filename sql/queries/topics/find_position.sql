-- The first position of a topic published at or after a time; the next one to come when there is none.
SELECT coalesce(min(m."position"), (SELECT s.last_value + 1 FROM tandem.message_position AS s)) AS "position"
FROM tandem.message AS m JOIN tandem.topic AS t ON t.id = m.topic_id
WHERE t.name = %(topic)s AND m.published_at >= %(at)s
