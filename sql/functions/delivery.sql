-- tandem.delivery(...): the payload of a delivery job. A message of up to 2 KiB travels inside, so that a consumer reads
-- nothing else; a larger one stays in the log only (a copy for each group would cost more than the lookup by position).
-- Without a search_path of its own, and by cases, so that the planner writes out one call where it stands.
CREATE OR REPLACE FUNCTION tandem.delivery(
    topic text, "position" bigint, message_id uuid, key text, schema_version smallint, published_at timestamptz,
    headers jsonb, payload jsonb
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN pg_column_size(payload) > 2048 AND headers IS NULL THEN jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at)
    WHEN pg_column_size(payload) > 2048 THEN jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at, 'headers', headers)
    WHEN headers IS NULL THEN jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at, 'payload', payload)
    ELSE jsonb_build_object(
        'topic', topic, 'position', "position", 'message_id', message_id, 'key', key, 'schema_version', schema_version,
        'published_at', published_at, 'headers', headers, 'payload', payload)
END;
