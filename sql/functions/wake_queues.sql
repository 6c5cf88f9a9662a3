-- tandem.wake_queues(queues): wakes two of those who sleep on each of the queues; call it after the commit. Returns the
-- number of notifications. A session that sleeps itself does not tell itself.
CREATE OR REPLACE FUNCTION tandem.wake_queues(queues text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue text;
    lane integer;
    notified integer := 0;
BEGIN
    FOREACH queue IN ARRAY queues LOOP
        lane := tandem.wake_lane(queue);
        -- As in tandem.wake.
        IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE
           AND pg_notification_queue_usage() < 0.9 THEN
            notified := notified + tandem.wake_sleepers(queue);
        END IF;
    END LOOP;
    RETURN notified;
END
$$;
