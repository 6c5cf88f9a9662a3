-- tandem.close_admission(queue, state, now, full): writes the state down, wakes others where work is left that the caller had
-- no room for (`full`), and answers the seconds until the next parked key is due. Internal, under the queue's lock.
CREATE OR REPLACE FUNCTION tandem.close_admission(q tandem.queue, st tandem.admission, now timestamptz, is_full boolean)
RETURNS double precision
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before bigint := st.seq;
BEGIN
    -- The lowest live turn of each shelf: whatever lies below it is dead, and is never walked over again.
    SELECT array_agg(a.shelf), array_agg(a.rank), array_agg(coalesce((
               SELECT t.vtime FROM tandem.turn AS t
               WHERE t.queue = q.name AND t.shelf = a.shelf AND t.rank = a.rank AND t.eligible AND t.vtime >= a.start
               ORDER BY t.vtime LIMIT 1), 'infinity'))
    INTO st.shelves, st.ranks, st.starts FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start);
    st.shelves := coalesce(st.shelves, '{}'); st.ranks := coalesce(st.ranks, '{}'); st.starts := coalesce(st.starts, '{}');
    INSERT INTO tandem.admission (queue, heard, probed_at, clock_ms, mean_ms, slot_floor, due_floor, shelves, ranks, starts, per_turn)
    VALUES (q.name, st.heard, st.probed_at, st.clock_ms, st.mean_ms, st.slot_floor, st.due_floor, st.shelves, st.ranks, st.starts, st.per_turn);
    DELETE FROM tandem.admission AS a WHERE a.queue = q.name AND a.seq = before;
    IF is_full AND EXISTS (SELECT FROM unnest(st.starts) AS s WHERE s < 'infinity') THEN
        PERFORM tandem.wake_queues(ARRAY[q.name]);
    END IF;
    RETURN (SELECT extract(epoch FROM min(t.due_at) - now) FROM tandem.turn AS t WHERE t.queue = q.name AND t.due_at > st.due_floor);
END
$$;
