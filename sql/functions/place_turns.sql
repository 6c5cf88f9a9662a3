-- tandem.place_turns(...): writes the turns of keys as they stand now: what waits, whether they may go on, and when.
-- Internal to admission, under the queue's lock. One element per (key, lane); `firsts` has a row of ten positions each
-- (what came, by band) or is NULL. Answers the state with the new turns noted on their shelves.
CREATE OR REPLACE FUNCTION tandem.place_turns(
    q tandem.queue, st tandem.admission, at timestamptz, keys text[], lanes text[], vtimes double precision[],
    means double precision[], tats timestamptz[], firsts bigint[], limited text[]
) RETURNS tandem.admission
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE soonest timestamptz;
BEGIN
    WITH facts AS MATERIALIZED (
        SELECT u.partition_key, u.lane, u.vtime, u.mean, u.tat, o.tid, h.best, n.live, n.lease_floor, w.due_at,
               CASE WHEN q.ordered THEN tandem.kept_in_sight(q, u.partition_key, h.heads, n.live, n.lease_floor) ELSE h.heads END AS floors, CASE WHEN k.exempt THEN 10 WHEN q.rank_keys THEN coalesce(h.best, 0) ELSE 0 END AS rank,
               CASE WHEN NOT q.ordered THEN u.lane WHEN w.kind = ANY (limited) THEN w.kind ELSE '' END AS shelf,
               h.best IS NOT NULL AND coalesce(n.live < c.most, true) AND NOT w.halted AS goes
        FROM (SELECT i.partition_key, i.lane, i.vtime, i.mean, i.tat,
                     CASE WHEN firsts IS NOT NULL THEN ARRAY(SELECT firsts[i.ord][b] FROM generate_series(1, 10) AS b) END AS firsts
              FROM unnest(keys, lanes, vtimes, means, tats) WITH ORDINALITY AS i(partition_key, lane, vtime, mean, tat, ord)) AS u
        LEFT JOIN LATERAL (
            SELECT t.ctid AS tid, t.floors, t.lease_floor FROM tandem.turn AS t
            WHERE t.queue = q.name AND t.partition_key = u.partition_key AND t.lane = u.lane ORDER BY t.seq DESC LIMIT 1) AS o ON true
        LEFT JOIN tandem.key AS k ON k.queue = q.name AND k.partition_key = u.partition_key
        CROSS JOIN LATERAL tandem.key_terms(q, k, u.partition_key) AS c
        CROSS JOIN LATERAL tandem.find_heads(q.name, u.partition_key, u.lane, o.floors, u.firsts) AS h
        CROSS JOIN LATERAL tandem.count_leases(q.name, u.partition_key, coalesce(o.lease_floor, 0), c.most) AS n
        CROSS JOIN LATERAL tandem.head_waits(q, u.partition_key, u.lane, h.heads, u.tat, c.every, c.burst, at) AS w
    ), moved AS (
        UPDATE tandem.turn AS t SET seq = nextval('tandem.ready_position'), shelf = f.shelf, rank = f.rank, vtime = f.vtime, mean_ms = f.mean,
            eligible = f.goes AND f.due_at IS NULL, due_at = CASE WHEN f.goes THEN f.due_at END, floors = f.floors,
            lease_floor = f.lease_floor, tat = f.tat
        FROM facts AS f WHERE t.ctid = f.tid
    ), made AS (
        INSERT INTO tandem.turn (queue, partition_key, lane, shelf, rank, vtime, eligible, due_at, floors, lease_floor, mean_ms, tat)
        SELECT q.name, f.partition_key, f.lane, f.shelf, f.rank, f.vtime, f.goes AND f.due_at IS NULL,
               CASE WHEN f.goes THEN f.due_at END, f.floors, f.lease_floor, f.mean, f.tat
        FROM facts AS f WHERE f.tid IS NULL AND f.best IS NOT NULL
    ), shelf AS (
        SELECT x.shelf, x.rank, min(x.start) AS start, min(x.due_at) AS due_at
        FROM (SELECT f.shelf, f.rank, CASE WHEN f.due_at IS NULL THEN f.vtime ELSE 'infinity' END AS start, f.due_at
              FROM facts AS f WHERE f.goes
              UNION ALL SELECT a.shelf, a.rank, a.start, NULL FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start)) AS x
        GROUP BY x.shelf, x.rank
    )
    SELECT array_agg(s.shelf), array_agg(s.rank), array_agg(s.start), min(s.due_at) INTO st.shelves, st.ranks, st.starts, soonest
    FROM shelf AS s;
    st.due_floor := least(st.due_floor, soonest - interval '1 us');
    RETURN st;
END
$$;
