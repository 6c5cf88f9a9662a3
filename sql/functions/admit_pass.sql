-- tandem.admit_pass(...): chooses jobs, leases them, and places the turns behind them; jobs of limited kinds that stand in
-- the common lane move to their own instead. Answers ids and since when they waited; `changed` is false where nothing was left
-- to do. Internal to admission, under the queue's lock. A row that a cancel has locked is left to it. The turns of plain keys
-- (see hear_touches) are written here from what was read on the way: fewer jobs than asked for means that none is left.
CREATE OR REPLACE FUNCTION tandem.admit_pass(
    q tandem.queue, INOUT st tandem.admission, now timestamptz, want bigint, global_room bigint, kinds text[], kind_rooms bigint[],
    worker uuid, token bigint, lease interval, OUT ids bigint[], OUT sinces timestamptz[], OUT changed boolean
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE turns record; nothing CONSTANT bigint[] := array_fill(NULL::bigint, '{10}');
BEGIN
    WITH chosen AS MATERIALIZED (  -- of a plain key: how many jobs shall go, and the position from which others may wait
        SELECT c.*, CASE WHEN c.plain THEN count(*) FILTER (WHERE c.taken) OVER turn END AS going,
               coalesce(min(c.pos) FILTER (WHERE NOT c.taken) OVER turn, CASE WHEN count(c.job_id) OVER turn >= c.asked THEN max(c.pos) OVER turn + 1 END) AS next
        FROM tandem.choose_jobs(q, st, now, want, global_room, kinds, kind_rooms) AS c WINDOW turn AS (PARTITION BY c.tid)
    ), locked AS MATERIALIZED (
        SELECT b.ctid AS tid, j.kind, c.start, c.vtime, c.step, c.mean_ms, c.tat, c.every, c.exempt, c.going, c.next, c.live, c.lease_floor, c.tid AS turn
        FROM chosen AS c JOIN tandem.blocked AS b ON b.job_id = ANY (ARRAY[c.job_id]) JOIN tandem.job AS j ON j.id = c.job_id WHERE c.taken FOR UPDATE OF b SKIP LOCKED
    ), gone AS (DELETE FROM tandem.blocked AS b USING locked AS l WHERE b.ctid = l.tid
        RETURNING b.job_id, b.partition_key, b.lane, b.band, b.blocked_at, b.priority, b.attempt, b.crashes, b.suspect, l.*, nextval('tandem.ready_position') AS slot
    ), leased AS (INSERT INTO tandem.lease (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes, suspect, queue, partition_key, slot, kind, exempt, charged_ms)
        SELECT g.job_id, token, worker, now, now + lease, g.priority, g.attempt + 1, g.crashes, g.suspect, q.name, nullif(g.partition_key, ''), g.slot, g.kind, g.exempt, g.mean_ms
        FROM gone AS g ON CONFLICT (job_id) DO NOTHING
    ), sorted AS (
        UPDATE tandem.blocked AS b SET lane = c.kind FROM chosen AS c WHERE c.misplaced AND b.job_id = ANY (ARRAY[c.job_id])
        RETURNING b.partition_key, b.lane, b.band, b.pos, c.mean_ms, c.vtime
    ), leaving AS (
        SELECT partition_key, lane, max(vtime) + count(*) * max(step) AS vtime, max(mean_ms) AS mean, greatest(max(tat), now) + (sum(count(*)) OVER (PARTITION BY partition_key))::float8 * max(every) AS tat,
               coalesce(count(*) = max(going), false) AS plain, count(*) + max(live) AS live, max(turn) AS turn, CASE WHEN max(next) IS NULL THEN nothing ELSE nothing[1:max(band)] || max(next) || nothing[max(band) + 2:] END AS floors,
               CASE WHEN max(live) = 0 AND q.key_max_running IS NOT NULL AND partition_key <> '' THEN min(slot) ELSE max(lease_floor) END AS lease_floor FROM gone GROUP BY 1, 2
    ), renewed AS (
        UPDATE tandem.turn AS t SET seq = nextval('tandem.ready_position'), shelf = l.lane, rank = 0, vtime = l.vtime, due_at = NULL, tat = NULL, floors = l.floors, lease_floor = l.lease_floor,
            eligible = l.floors <> nothing AND coalesce(l.live < q.key_max_running OR l.partition_key = '', true)
        FROM leaving AS l WHERE l.plain AND t.ctid = l.turn RETURNING t.shelf, t.vtime, t.eligible
    ), shelf AS (SELECT x.shelf, x.rank, min(x.start) AS start FROM (SELECT r.shelf, 0::smallint AS rank, r.vtime AS start FROM renewed AS r WHERE r.eligible
            UNION ALL SELECT a.shelf, a.rank, a.start FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start)) AS x GROUP BY x.shelf, x.rank
    ), parts AS (
        SELECT partition_key, lane, vtime, mean, tat, NULL::bigint[] AS firsts FROM leaving WHERE NOT plain UNION ALL SELECT partition_key, lane, max(vtime), max(mean_ms), max(tat), NULL FROM chosen AS c
        WHERE c.job_id IS NULL OR c.misplaced GROUP BY 1, 2 HAVING bool_and(NOT c.taken)
        UNION ALL SELECT partition_key, lane, max(vtime), max(mean_ms), NULL, tandem.lowest_by_band(array_agg(band), array_agg(pos)) FROM sorted GROUP BY 1, 2
    ), behind AS (  -- one element per turn: a lane may take jobs in while others leave it
        SELECT partition_key, lane, max(vtime) AS vtime, max(mean) AS mean, max(tat) AS tat, max(firsts) AS firsts FROM parts GROUP BY 1, 2)
    SELECT array_agg(b.partition_key) AS keys, array_agg(b.lane) AS lanes, array_agg(b.vtime) AS vtimes, array_agg(b.mean) AS means,
           array_agg(b.tat) AS tats, CASE WHEN bool_or(b.firsts IS NOT NULL) THEN array_agg(coalesce(b.firsts, nothing)) END AS firsts, (SELECT count(*) FROM renewed) AS renewed,
           (SELECT array_agg(s.shelf) FROM shelf AS s) AS shelves, (SELECT array_agg(s.rank) FROM shelf AS s) AS ranks, (SELECT array_agg(s.start) FROM shelf AS s) AS starts, (SELECT array_agg(g.job_id ORDER BY g.start, g.job_id) FROM gone AS g) AS ids,
           (SELECT array_agg(g.blocked_at ORDER BY g.start, g.job_id) FROM gone AS g) AS sinces, (SELECT max(g.vtime) FROM gone AS g) AS clock INTO turns FROM behind AS b;
    ids := turns.ids; sinces := turns.sinces; changed := turns.keys IS NOT NULL OR turns.renewed > 0; st.clock_ms := greatest(st.clock_ms, turns.clock);
    st.shelves := coalesce(turns.shelves, '{}'); st.ranks := coalesce(turns.ranks, '{}'); st.starts := coalesce(turns.starts, '{}');
    st.per_turn := coalesce(greatest(1, least(coalesce(cardinality(ids), 0)::float8 / nullif(turns.renewed + coalesce(cardinality(turns.keys), 0), 0), (st.per_turn + 5) / 2)), st.per_turn);
    IF turns.keys IS NOT NULL THEN st := tandem.place_turns(q, st, now, turns.keys, turns.lanes, turns.vtimes, turns.means, turns.tats, turns.firsts, kinds); END IF;
END $$;
