-- tandem.claim_message_ids(...): who owns each message of a call: itself, or the first one of its id within the dedup
-- window. Elements without an id or key own themselves. Internal: publish_messages calls it.
CREATE OR REPLACE FUNCTION tandem.claim_message_ids(
    topic_id integer, until timestamptz, at timestamptz, payloads jsonb[], keys text[], ids uuid[], places bigint[],
    message_ids uuid[], dedup_keys text[], OUT owners uuid[], OUT places_of bigint[], OUT same boolean[]
)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH input AS MATERIALIZED (
    SELECT u.ord, u.id, u.place, coalesce(u.dedup_key, u.given::text) AS name,
           sha256(convert_to(coalesce(u.key, '') || E'\n' || u.body::text, 'UTF8')) AS hash
    FROM unnest(ids, places, payloads, keys, message_ids, dedup_keys) WITH ORDINALITY
        AS u(id, place, body, key, given, dedup_key, ord) WHERE u.ord <= cardinality(places)
), firsts AS (  -- one row per name, in its order: a batch that has a name twice, and batches in any order
    SELECT DISTINCT ON (name) name, id, place, hash FROM input WHERE name IS NOT NULL ORDER BY name, ord
), held AS (
    INSERT INTO tandem.message_dedup AS k (topic_id, id, message_id, "position", body_hash, expires_at)
    SELECT topic_id, name, id, place, hash, until FROM firsts
    ON CONFLICT (topic_id, id) DO UPDATE SET (message_id, "position", body_hash, expires_at) = (
        SELECT CASE WHEN f.free THEN excluded.message_id ELSE k.message_id END,
               CASE WHEN f.free THEN excluded."position" ELSE k."position" END,
               CASE WHEN f.free THEN excluded.body_hash ELSE k.body_hash END,
               CASE WHEN f.free THEN excluded.expires_at ELSE k.expires_at END
        FROM (SELECT k.expires_at <= at AS free) AS f)
    RETURNING k.id, k.message_id, k."position", k.body_hash
)
SELECT array_agg(coalesce(h.message_id, i.id) ORDER BY i.ord), array_agg(coalesce(h."position", i.place) ORDER BY i.ord),
       array_agg(coalesce(h.body_hash = i.hash, true) ORDER BY i.ord)
FROM input AS i LEFT JOIN held AS h ON h.id = i.name
$$;
