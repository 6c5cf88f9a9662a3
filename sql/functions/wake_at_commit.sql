-- tandem.wake_at_commit(lane): wakes the lane when the calling transaction commits, once however often called.
-- For transactions whose commit we do not see; tandem.enqueue marks its row in `ready` instead. The row lives only inside the transaction; its place is remembered, so
-- that its removal never reads the dead rows of others (they pile up while somebody holds an old snapshot).
CREATE OR REPLACE FUNCTION tandem.wake_at_commit(lane integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mark text := 'tandem.wake_' || lane;
    xid text := pg_current_xact_id()::text;
    place tid;
BEGIN
    IF current_setting(mark, true) IS DISTINCT FROM xid THEN
        INSERT INTO tandem.wake_request (lane) VALUES (lane) RETURNING ctid INTO place;
        PERFORM set_config(mark, xid, true), set_config('tandem.request_' || lane, place::text, true);
    END IF;
END
$$;
