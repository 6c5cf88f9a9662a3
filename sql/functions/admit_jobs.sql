-- tandem.admit_jobs(...): claims up to `want` jobs of a managed queue under all its limits, for `worker` under `token`, after
-- it has finished the given ones. One statement for its caller; inside, each one sees what was committed before it, and the
-- locks on the queue's row and those of the limits make them count and admit one after the other: no limit is ever passed.
-- The first row is about the whole: ids finished, seconds until a parked key is due. The others are jobs as in claim_jobs.
CREATE OR REPLACE FUNCTION tandem.admit_jobs(
    queue_name text, want integer, worker uuid, token bigint, lease interval, thorough boolean,
    job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[]
) RETURNS TABLE (
    job_id bigint, pos bigint, queue text, priority smallint, attempt smallint, crashes smallint, suspect boolean,
    partition_key text, ready_at timestamptz, claimed_at timestamptz, kind text, payload text, event_id uuid, policy text,
    context text, created_at timestamptz, cancelled boolean, finished bigint[], due double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE q tandem.queue; st tandem.admission; ids bigint[] := '{}'; sinces timestamptz[] := '{}'; now timestamptz; room record; got record;
    ends tandem.touch[];
BEGIN
    IF cardinality(job_ids) > 0 THEN
        SELECT f.finished, f.ends INTO finished, ends FROM tandem.finish_leases(queue_name, job_ids, tokens, ran_ms, results, ttls) AS f;
    END IF;
    SELECT m.* INTO q FROM tandem.queue AS m WHERE m.name = queue_name AND m.managed AND m.paused_at IS NULL AND want > 0 FOR NO KEY UPDATE;
    IF FOUND THEN
        now := tandem.clock();
        st := tandem.open_admission(q, now, thorough, ends);
        FOR pass IN 1..24 LOOP  -- each one brings a fifth of what is wanted, or all there is
            room := tandem.count_room(q, st);
            st.slot_floor := room.slot_floor;
            EXIT WHEN least(want - cardinality(ids), room.queue_room) <= 0;
            got := tandem.admit_pass(q, st, now, least(want - cardinality(ids), room.queue_room), room.global_room, room.kinds,
                                     room.kind_rooms, worker, token, lease);
            st := got.st; ids := ids || got.ids; sinces := sinces || got.sinces;
            EXIT WHEN NOT got.changed;
        END LOOP;
        due := tandem.close_admission(q, st, now, cardinality(ids) >= want);
    ELSIF cardinality(finished) > 0 THEN
        INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
        SELECT e.queue, e.partition_key, e.ended, e.ran_ms, e.charged_ms FROM unnest(ends) AS e;
        PERFORM tandem.wake_queues(ARRAY[queue_name]);  -- the caller takes no more: let others use what it freed
    END IF;
    RETURN NEXT;
    IF cardinality(ids) > 0 THEN
        RETURN QUERY SELECT l.job_id, l.slot, l.queue, l.priority, l.attempt, l.crashes, l.suspect, l.partition_key, u.since, l.claimed_at,
               j.kind, j.payload::text, j.event_id, j.policy::text, j.context::text, j.created_at,
               EXISTS (SELECT FROM tandem.cancel_intent AS i WHERE i.job_id = l.job_id), NULL::bigint[], NULL::double precision
        FROM unnest(ids, sinces) WITH ORDINALITY AS u(id, since, ord)
        CROSS JOIN LATERAL (SELECT x.* FROM tandem.lease AS x WHERE x.job_id = u.id AND x.token = admit_jobs.token OFFSET 0) AS l  -- one by one
        JOIN tandem.job AS j ON j.id = l.job_id ORDER BY u.ord;
    END IF;
END
$$;
