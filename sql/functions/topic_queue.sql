-- tandem.topic_queue(topic, group): the queue, and the kind, of a group's deliveries. Long names are cut and made
-- unambiguous by a hash.
CREATE OR REPLACE FUNCTION tandem.topic_queue(topic text, name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN length(topic) + length(name) <= 55 THEN 'topic.' || topic || '..' || name
            ELSE left('topic.' || topic || '..' || name, 50) || '.' || left(md5(topic || '..' || name), 12) END;
