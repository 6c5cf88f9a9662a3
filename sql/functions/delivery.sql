-- tandem.delivery(...): the payload of a delivery job. A message of up to 2 KiB travels inside, so that a consumer reads
-- nothing else; a larger one stays in the log only (a copy for each group would cost more than the lookup by position).
CREATE OR REPLACE FUNCTION tandem.delivery(
    topic text, "position" bigint, message_id uuid, key text, schema_version smallint, published_at timestamptz,
    headers jsonb, payload jsonb
) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object('topic', topic, 'position', "position", 'message_id', message_id, 'key', key,
                          'schema_version', schema_version, 'published_at', published_at)
    || CASE WHEN headers IS NULL THEN '{}' ELSE jsonb_build_object('headers', headers) END
    || CASE WHEN pg_column_size(payload) > 2048 THEN '{}' ELSE jsonb_build_object('payload', payload) END;
