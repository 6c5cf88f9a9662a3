-- tandem.wake_at_commit(lane): wakes the lane when the calling transaction commits, once however often called.
-- For transactions whose commit we do not see. The row lives only inside the transaction.
CREATE OR REPLACE FUNCTION tandem.wake_at_commit(lane integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mark text := 'tandem.wake_' || lane;
    xid text := pg_current_xact_id()::text;
BEGIN
    IF current_setting(mark, true) IS DISTINCT FROM xid THEN
        PERFORM set_config(mark, xid, true);
        INSERT INTO tandem.wake_request (lane) VALUES (lane);
    END IF;
END
$$;
