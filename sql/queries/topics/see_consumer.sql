-- Notes that a program consumes; at most every ten seconds for each name, so that polling writes nothing.
INSERT INTO tandem.topic_consumer AS c (group_id, name, seen_at)
SELECT %(group_id)s, %(name)s, k.at FROM (SELECT tandem.clock() AS at) AS k
WHERE NOT EXISTS (SELECT FROM tandem.topic_consumer AS o
                  WHERE o.group_id = %(group_id)s AND o.name = %(name)s AND o.seen_at > k.at - interval '10 seconds')
ON CONFLICT (group_id, name) DO UPDATE SET seen_at = excluded.seen_at
