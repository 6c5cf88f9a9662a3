-- Trigger function behind tandem.wake_at_commit: runs deferred, at the commit, and removes its row.
CREATE OR REPLACE FUNCTION tandem.wake_requested() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM tandem.wake_request WHERE lane = NEW.lane;
    PERFORM tandem.wake(ARRAY[NEW.lane]);
    RETURN NULL;
END
$$;
