-- Where positions stand in partitions of 10^9, whether the present one was begun more than `every` ago, and which
-- partitions of topics there are.
SELECT s.last_value / 1000000000 AS current,
       coalesce((SELECT min(m.published_at) < tandem.clock() - %(every)s::interval FROM tandem.topic AS t CROSS JOIN LATERAL (
           SELECT m.published_at FROM tandem.message AS m WHERE m.topic_id = t.id AND m."position" >= s.last_value / 1000000000 * 1000000000
           ORDER BY m."position" LIMIT 1) AS m), false) AS old,
       ARRAY(SELECT t.id FROM tandem.topic AS t ORDER BY t.id) AS topics,
       ARRAY(SELECT substring(c.relname FROM 9) FROM pg_class AS c
             WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^message_[0-9]+_[0-9]+$') AS partitions
FROM tandem.message_position AS s
