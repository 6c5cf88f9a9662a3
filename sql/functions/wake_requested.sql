-- Trigger function behind tandem.wake_at_commit and wake_queue_at_commit: runs deferred, at the commit, and removes its row.
CREATE OR REPLACE FUNCTION tandem.wake_requested() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text := coalesce(current_setting(
        coalesce('tandem.place_' || tandem.queue_number(NEW.queue), 'tandem.request_' || NEW.lane), true), '');
BEGIN
    -- Without its place (the caller said RESET ALL) the row stays; nobody ever reads it.
    DELETE FROM tandem.wake_request WHERE ctid = nullif(place, '')::tid AND lane = NEW.lane;
    IF NEW.queue IS NULL THEN
        PERFORM tandem.wake(ARRAY[NEW.lane]);
    ELSE
        PERFORM tandem.wake_queues(ARRAY[NEW.queue]);
    END IF;
    RETURN NULL;
END
$$;
