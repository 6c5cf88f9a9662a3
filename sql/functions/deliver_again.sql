-- tandem.deliver_again(topic_id, queues, positions): writes deliveries of messages that stand in the log. Internal.
CREATE OR REPLACE FUNCTION tandem.deliver_again(topic_id integer, queues text[], positions bigint[]) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(sum(tandem.deliver_messages(u.topic, u.at, queues, u.places, u.ids, u.keys, u.bodies, u.headers, u.schemas, u.ats)), 0)
FROM (SELECT t.name AS topic, tandem.clock() AS at, array_agg(m."position" ORDER BY m."position") AS places,
             array_agg(m.message_id ORDER BY m."position") AS ids, array_agg(m.key ORDER BY m."position") AS keys,
             array_agg(m.payload ORDER BY m."position") AS bodies, array_agg(m.headers ORDER BY m."position") AS headers,
             array_agg(m.schema_version ORDER BY m."position") AS schemas, array_agg(m.published_at ORDER BY m."position") AS ats
      FROM tandem.message AS m JOIN tandem.topic AS t ON t.id = m.topic_id
      WHERE m.topic_id = deliver_again.topic_id AND m."position" = ANY (positions) GROUP BY t.name) AS u
$$;
