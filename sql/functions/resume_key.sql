-- tandem.resume_key(queue, key): lets a key of an ordered queue go on past the dead letter it stopped behind; the dead letter
-- stays one. Answers whether the key had stopped.
CREATE OR REPLACE FUNCTION tandem.resume_key(queue_name text, key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM tandem.halted AS h WHERE h.queue = queue_name AND h.partition_key = key;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM tandem.recheck_keys(queue_name, key);
    RETURN true;
END
$$;
