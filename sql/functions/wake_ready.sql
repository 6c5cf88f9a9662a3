-- Trigger function of `ready`, for the rows that tandem.enqueue marked: wakes who sleeps on their queue when the transaction commits.
CREATE OR REPLACE FUNCTION tandem.wake_ready() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane integer := tandem.wake_lane(NEW.queue);
    told integer;
BEGIN
    -- As in tandem.wake, without its loop.
    IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE
       AND pg_notification_queue_usage() < 0.9 THEN
        told := tandem.wake_sleepers(NEW.queue);  -- no PERFORM: that is a query
    END IF;
    RETURN NULL;
END
$$;
