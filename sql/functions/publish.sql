-- tandem.publish(topic, message, ...): publishes one message in the caller's transaction and answers its id. For
-- programs in any language; consumers are woken when the caller commits. With message_id or dedup_key a repeat with the
-- same body answers the first message's id, another body raises unique_violation (23505).
CREATE OR REPLACE FUNCTION tandem.publish(
    topic text, message jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL, message_id uuid DEFAULT NULL,
    dedup_key text DEFAULT NULL, schema_version integer DEFAULT 1
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer record;
BEGIN
    SELECT p.message_id, p.same_body INTO answer FROM tandem.publish_messages(
        topic, ARRAY[message], ARRAY[key], ARRAY[headers], CASE WHEN message_id IS NOT NULL THEN ARRAY[message_id] END,
        CASE WHEN dedup_key IS NOT NULL THEN ARRAY[dedup_key] END, ARRAY[schema_version]::smallint[]) AS p;
    IF NOT answer.same_body THEN
        RAISE EXCEPTION '"%" belongs to message % of topic "%" with another body', coalesce(dedup_key, message_id::text),
            answer.message_id, topic USING ERRCODE = 'unique_violation', HINT = 'Use another id for another message.';
    END IF;
    RETURN answer.message_id;
END
$$;
