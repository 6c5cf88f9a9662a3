-- tandem.open_admission(queue, now, thorough, ends): the state of a queue's admission (a first one where it has none), with all
-- that was said since, and what the caller has ended, taken in and the keys whose time has come placed again. Internal,
-- under the queue's lock.
CREATE OR REPLACE FUNCTION tandem.open_admission(q tandem.queue, now timestamptz, thorough boolean, ends tandem.touch[]) RETURNS tandem.admission
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    st tandem.admission;
    limited text[] := ARRAY(SELECT substr(c.name, 6) FROM tandem.concurrency_limit AS c WHERE c.name <> 'global');
    due record;
BEGIN
    SELECT a.* INTO st FROM tandem.admission AS a WHERE a.queue = q.name ORDER BY a.seq DESC LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO tandem.admission (queue, heard, probed_at, clock_ms, mean_ms, slot_floor, due_floor, shelves, ranks, starts, per_turn)
        VALUES (q.name, 0, '-infinity', 0, 10, 0, '-infinity', '{}', '{}', '{}', 5) RETURNING * INTO st;
    END IF;
    st := tandem.hear_touches(q, st, now, thorough, ends, limited);
    SELECT array_agg(t.partition_key) AS keys, array_agg(t.lane) AS lanes, array_agg(t.vtime) AS vtimes, array_agg(t.mean_ms) AS means,
           array_agg(t.tat) AS tats, count(*) AS keys_due, max(t.due_at) AS last
    INTO due FROM (SELECT o.partition_key, o.lane, o.vtime, o.mean_ms, o.tat, o.due_at FROM tandem.turn AS o
                   WHERE o.queue = q.name AND o.due_at > st.due_floor AND o.due_at <= now ORDER BY o.due_at LIMIT 1000) AS t;
    IF due.keys IS NOT NULL THEN
        st := tandem.place_turns(q, st, now, due.keys, due.lanes, due.vtimes, due.means, due.tats, NULL, limited);
    END IF;
    IF due.keys_due < 1000 THEN
        st.due_floor := least(now, (SELECT min(o.due_at) - interval '1 us' FROM tandem.turn AS o
                                    WHERE o.queue = q.name AND o.due_at > st.due_floor));
    END IF;
    RETURN st;
END
$$;
