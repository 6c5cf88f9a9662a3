-- tandem.clear_limit(target): removes a limit, and all that a key had of its own. Answers whether there was one.
CREATE OR REPLACE FUNCTION tandem.clear_limit(target text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text := substr(target, strpos(target || ':', ':') + 1);
    key text := substr(place, strpos(place || '/', '/') + 1);
    found_one boolean;
BEGIN
    IF target LIKE 'queue:%' THEN
        UPDATE tandem.queue AS q SET max_running = NULL WHERE q.name = place AND q.max_running IS NOT NULL;
        found_one := FOUND;
        PERFORM tandem.recheck_keys(place, '') WHERE found_one;
    ELSIF target LIKE 'key:%' THEN
        DELETE FROM tandem.key AS k WHERE k.queue = split_part(place, '/', 1) AND k.partition_key = key;
        found_one := FOUND;
        PERFORM tandem.recheck_keys(split_part(place, '/', 1), key) WHERE found_one;
    ELSE
        DELETE FROM tandem.concurrency_limit AS c WHERE c.name = target;
        found_one := FOUND;
        PERFORM tandem.recheck_keys(q.name, '') FROM tandem.queue AS q WHERE q.managed AND found_one;
    END IF;
    RETURN found_one;
END
$$;
