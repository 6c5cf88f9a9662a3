-- tandem.wake_queue_at_commit(queue): wakes two of the queue's sleepers when the calling transaction commits, once however
-- often called. As tandem.wake_at_commit, which tells all sleepers of a lane.
CREATE OR REPLACE FUNCTION tandem.wake_queue_at_commit(queue text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mark text := 'tandem.queue_' || tandem.queue_number(queue);
    xid text := pg_current_xact_id()::text;
    place tid;
BEGIN
    IF current_setting(mark, true) IS DISTINCT FROM xid THEN
        INSERT INTO tandem.wake_request (lane, queue) VALUES (tandem.wake_lane(queue), queue) RETURNING ctid INTO place;
        PERFORM set_config(mark, xid, true), set_config('tandem.place_' || tandem.queue_number(queue), place::text, true);
    END IF;
END
$$;
