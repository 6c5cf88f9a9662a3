-- tandem.deliver_messages(...): writes the deliveries of messages to queues of groups: one ordinary job for each pair,
-- its kind named like its queue, its partition key the message's key. Internal: publish and fill call it.
CREATE OR REPLACE FUNCTION tandem.deliver_messages(
    topic text, at timestamptz, queues text[], places bigint[], ids uuid[], keys text[], bodies jsonb[], headers jsonb[],
    schemas smallint[], published_ats timestamptz[], wake text DEFAULT 'commit'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made record;
BEGIN
    SELECT array_agg(nextval('tandem.job_id')) AS ids, array_agg(q.queue) AS queues, array_agg(m.payload) AS payloads,
           array_agg(m.key) AS keys, array_agg(m.id) AS events, array_agg(m.header) AS contexts INTO made
    FROM (SELECT u.id, u.key, u.header, tandem.delivery(
              topic, u.place, u.id, u.key, coalesce(u.schema, 1::smallint), coalesce(u.published_at, at), u.header, u.body) AS payload
          FROM unnest(places, ids, keys, bodies, headers, schemas, published_ats)
              AS u(place, id, key, body, header, schema, published_at) OFFSET 0) AS m  -- built once, for every group
    CROSS JOIN unnest(queues) AS q(queue);
    PERFORM tandem.insert_jobs(at, made.ids, made.queues, made.payloads, made.queues, NULL, NULL, made.keys, made.events, NULL, made.contexts);
    IF wake = 'commit' THEN
        PERFORM tandem.wake_batch_at_commit(queues);
    END IF;
    RETURN cardinality(made.ids);
END
$$;
