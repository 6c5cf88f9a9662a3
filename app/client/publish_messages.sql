-- Publishes messages to one topic in the caller's transaction; one row per message in the order given.
SELECT p.message_id, p."position", p.created, p.same_body
FROM tandem.publish_messages(
    %(topic)s::text, %(payloads)s::text[]::jsonb[], %(keys)s::text[], %(headers)s::text[]::jsonb[],
    %(message_ids)s::uuid[], %(dedup_keys)s::text[], %(schema_versions)s::smallint[], %(wake)s::text) AS p
ORDER BY p.ord
