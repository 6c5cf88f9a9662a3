-- tandem.publish_messages(topic, payloads, ...): appends messages to a topic in the caller's transaction and writes the
-- deliveries of every group beside them. One array element per message; arrays may be NULL. A message with a
-- message_id or a dedup_key is published once per dedup window: a repeat answers the first one (created is false),
-- with same_body false where the body differs. Answers one row per message in the order given.
CREATE OR REPLACE FUNCTION tandem.publish_messages(
    topic text, payloads jsonb[], keys text[] DEFAULT NULL, headers jsonb[] DEFAULT NULL, message_ids uuid[] DEFAULT NULL,
    dedup_keys text[] DEFAULT NULL, schema_versions smallint[] DEFAULT NULL, wake text DEFAULT 'commit'
) RETURNS TABLE (ord bigint, message_id uuid, "position" bigint, created boolean, same_body boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    at timestamptz; target record; places bigint[]; ids uuid[]; owners uuid[]; owner_places bigint[]; same boolean[];
BEGIN
    -- As in tandem.enqueue_jobs: the xid comes before any position and before the clock is read.
    PERFORM pg_current_xact_id();
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- An old snapshot would miss a group made meanwhile: this fails (40001) if the topic has changed since.
        PERFORM FROM tandem.topic AS t WHERE t.name = topic FOR SHARE;
    END IF;
    at := tandem.clock();
    target := tandem.publish_target(topic, payloads);
    PERFORM tandem.refuse_size(NULL, NULL, h) FROM unnest(headers) AS h WHERE NOT tandem.fits_size(NULL, NULL, h);
    IF cardinality(payloads) = 1 AND message_ids IS NULL AND dedup_keys IS NULL THEN
        RETURN QUERY SELECT 1::bigint, o.id, o.place, true, true FROM tandem.publish_one(
            topic, target.id, target.version, target.queues, at, payloads[1], keys[1], headers[1], coalesce(schema_versions[1], 1::smallint), wake) AS o; RETURN;
    END IF;
    SELECT array_agg(nextval('tandem.message_position') ORDER BY u.ord),
           array_agg(coalesce(u.id, tandem.uuid7(at)) ORDER BY u.ord) INTO places, ids
    FROM unnest(payloads, message_ids) WITH ORDINALITY AS u(body, id, ord) WHERE u.ord <= cardinality(payloads);
    owners := ids; owner_places := places;
    IF message_ids IS NOT NULL OR dedup_keys IS NOT NULL THEN
        SELECT d.owners, d.places_of, d.same INTO owners, owner_places, same
        FROM tandem.claim_message_ids(target.id, at + target.dedup_window, at, payloads, keys, ids, places, message_ids, dedup_keys) AS d;
    END IF;
    INSERT INTO tandem.message ("position", published_at, xid, message_id, topic_id, version, schema_version, key, payload, headers)
    SELECT i.place, at, pg_current_xact_id()::text::bigint, i.id, target.id, target.version, coalesce(i.schema, 1::smallint), i.key, i.body, i.header
    FROM unnest(places, ids, owner_places, keys, payloads, headers, schema_versions)
        AS i(place, id, owner, key, body, header, schema) WHERE i.place = i.owner;
    PERFORM tandem.deliver_messages(topic, at, target.queues, u.places, u.ids, u.keys, u.bodies, u.headers, u.schemas, NULL, wake)
    FROM (SELECT array_agg(v.place ORDER BY v.place) AS places, array_agg(v.id ORDER BY v.place) AS ids,
                 array_agg(v.key ORDER BY v.place) AS keys, array_agg(v.body ORDER BY v.place) AS bodies,
                 array_agg(v.header ORDER BY v.place) AS headers, array_agg(v.schema ORDER BY v.place) AS schemas
          FROM unnest(places, ids, owner_places, keys, payloads, headers, schema_versions)
              AS v(place, id, owner, key, body, header, schema) WHERE v.place = v.owner) AS u
    WHERE cardinality(target.queues) > 0 AND u.places IS NOT NULL;
    RETURN QUERY SELECT o.ord, o.id, o.place, o.place = o.mine, coalesce(o.same, true)
    FROM unnest(owners, owner_places, places, same) WITH ORDINALITY AS o(id, place, mine, same, ord);
END
$$;
