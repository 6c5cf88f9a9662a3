-- tandem.wake(lanes): notifies all who sleep on the lanes; call it after the commit. tandem.wake_queues tells two of a queue.
-- A sleeper holds its lane's advisory lock shared: taking it exclusively proves that nobody sleeps. Lock and
-- unlock stand in one expression, so that no cancel can fall between them. Returns the number of notifications.
CREATE OR REPLACE FUNCTION tandem.wake(lanes integer[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane integer;
    notified integer := 0;
BEGIN
    FOREACH lane IN ARRAY lanes LOOP
        -- With the server's notification queue nearly full, NOTIFY would fail the commit; a sleeper looks by itself.
        IF (pg_try_advisory_lock(1413565006, lane) AND pg_advisory_unlock(1413565006, lane)) IS NOT TRUE
           AND pg_notification_queue_usage() < 0.9 THEN
            PERFORM pg_notify('tandem_wake_' || lane, '');
            notified := notified + 1;
        END IF;
    END LOOP;
    RETURN notified;
END
$$;
