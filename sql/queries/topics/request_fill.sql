-- Asks for a replay: every message that is visible now, from one position to another, is delivered to the group again.
INSERT INTO tandem.topic_fill (group_id, reason, from_position, to_position, cursor, snapshot, requested_at, requested_by)
SELECT g.id, %(reason)s::text, %(first)s::bigint, least(coalesce(%(last)s::bigint, s.last_value), s.last_value), %(first)s::bigint - 1, pg_current_snapshot(),
       tandem.clock(), %(by)s
FROM tandem.topic_group AS g JOIN tandem.topic AS t ON t.id = g.topic_id CROSS JOIN tandem.message_position AS s
WHERE t.name = %(topic)s AND g.name = %(group)s
RETURNING id, from_position, to_position
