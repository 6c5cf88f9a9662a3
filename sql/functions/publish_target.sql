-- tandem.publish_target(topic, payloads): the topic that a publish goes to, and the queues of its groups, read in one
-- snapshot: what the message's version says is what its publisher delivered to. Internal.
CREATE OR REPLACE FUNCTION tandem.publish_target(topic text, payloads jsonb[], OUT id integer, OUT version integer,
                                                 OUT dedup_window interval, OUT queues text[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    largest bigint := (SELECT max(octet_length(p::text)) FROM unnest(payloads) AS p);
    sealed boolean;
BEGIN
    SELECT t.id, t.version, t.dedup_window, t.encrypted,
           ARRAY(SELECT g.queue FROM tandem.topic_group AS g WHERE g.topic_id = t.id AND g.version <= t.version ORDER BY g.id)
    INTO id, version, dedup_window, sealed, queues
    FROM tandem.topic AS t WHERE t.name = topic;
    IF id IS NULL THEN
        RAISE EXCEPTION 'there is no topic "%"', topic USING ERRCODE = 'undefined_object', HINT = 'Make it with: tandem topics create.';
    END IF;
    -- The caller's own login: functions with their owner's rights and SET ROLE do not change it. Superusers are members of all.
    IF pg_has_role(session_user, to_regrole('tandem_system'), 'MEMBER')
        AND NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = session_user)
        AND NOT EXISTS (SELECT FROM tandem.topic_grant AS g WHERE g.principal = 'postgres:' || session_user
                        AND g.operation = 'publish' AND g.topic IN (publish_target.topic, '*')) THEN
        RAISE EXCEPTION 'login "%" may not publish to topic "%"', session_user, topic USING ERRCODE = 'insufficient_privilege',
            HINT = format('An administrator can allow it: tandem topics grant postgres:%s publish %s', session_user, topic);
    END IF;
    IF largest > 262144 THEN
        RAISE EXCEPTION 'a message of % bytes is over the limit of 262144', largest
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and publish its key.';
    END IF;
    IF sealed AND EXISTS (SELECT FROM unnest(payloads) AS p WHERE jsonb_typeof(p) <> 'object' OR NOT p ? 'tandem_sealed') THEN
        RAISE EXCEPTION 'topic "%" takes encrypted payloads only', topic
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Publish through the API or with the topic''s key.';
    END IF;
END
$$;
