-- The bodies of messages that are too large to travel in their deliveries.
SELECT m."position", m.payload::text AS payload
FROM tandem.message AS m JOIN tandem.topic AS t ON t.id = m.topic_id
WHERE t.name = %(topic)s AND m."position" = ANY (%(positions)s::bigint[])
