-- tandem.hear_touches(...): takes in what producers and finishers said since (`ends`: what nobody wrote down), charges run time,
-- and places the turns of keys that changed. Internal to admission, under the queue's lock. Late commits, between the safe floor
-- and what was heard, are looked for every 0.2 s and by whoever is about to sleep (`thorough`). A key that may go on learns only
-- of a charge from jobs that ended: where that is little, one of four is written, and stands for four. Plain keys (unordered,
-- no terms of their own, no rate) are written here, their floors taken on trust: a turn without a job is put right when it comes.
CREATE OR REPLACE FUNCTION tandem.hear_touches(q tandem.queue, st tandem.admission, at timestamptz, thorough boolean, ends tandem.touch[], limited text[]) RETURNS tandem.admission
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    probes boolean := thorough OR st.probed_at < at - interval '0.2 s' OR st.probed_at > at;
    start bigint := CASE WHEN NOT probes THEN st.heard ELSE coalesce((SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = q.name AND f.priority = -1), 0) END;
    lanes text[] := ARRAY(SELECT DISTINCT s FROM unnest(st.shelves || ''::text) AS s WHERE NOT q.ordered OR s = '');
    said record; nothing CONSTANT bigint[] := array_fill(NULL::bigint, '{10}'); sample CONSTANT integer := 4; little_ms CONSTANT integer := 20;
BEGIN
    WITH gone AS (
        DELETE FROM tandem.touch AS t USING (SELECT o.ctid AS tid FROM tandem.touch AS o WHERE o.queue = q.name AND o.pos >= start ORDER BY o.pos LIMIT 1000) AS f
        WHERE t.ctid = f.tid RETURNING t.pos, t.partition_key, t.band, t.first, t.ended, t.ran_ms, t.charged_ms
    ), by_key AS (
        SELECT g.partition_key, sum(g.ended) AS ended, greatest(sum(g.ran_ms), sum(g.ended)) AS ran, sum(g.charged_ms) AS charged, bool_or(g.first IS NULL) AS asks, bool_and(g.ended > 0 OR g.first IS NOT NULL) AS plain, min(g.first) AS first,
               CASE WHEN min(g.band) = max(g.band) THEN min(g.band) + 1 END AS place,  -- most are of one band: no function for ten
               CASE WHEN max(g.first) IS NULL THEN nothing WHEN min(g.band) = max(g.band) THEN nothing[1:min(g.band)] || min(g.first) || nothing[min(g.band) + 2:] ELSE tandem.lowest_by_band(array_agg(g.band), array_agg(g.first)) END AS firsts,
               bool_and(g.ended > 0) AND abs(greatest(sum(g.ran_ms), sum(g.ended)) - sum(g.charged_ms)) <= little_ms AS is_little, random() * sample < 1 AS drawn
        FROM (SELECT o.partition_key, o.band, o.first, o.ended, o.ran_ms, o.charged_ms FROM gone AS o UNION ALL SELECT e.partition_key, e.band, e.first, e.ended, e.ran_ms, e.charged_ms FROM unnest(ends) AS e) AS g GROUP BY g.partition_key
    ), known AS (
        SELECT k.partition_key, l.lane, k.firsts, t.tid, t.tat, t.lease_floor, CASE WHEN k.place IS NULL THEN t.floors ELSE t.floors[1:k.place - 1] || least(t.floors[k.place], k.first) || t.floors[k.place + 1:10] END AS heads,
               tandem.next_vtime(t.vtime, CASE WHEN t.floors <> nothing THEN st.clock_ms - 5000 ELSE st.clock_ms END, c.times * (k.ran - k.charged) / coalesce(x.weight, 1)) AS vtime,
               tandem.next_mean(coalesce(t.mean_ms, st.mean_ms), c.times * k.ran, c.times * k.ended) AS mean,
               t.tid IS NOT NULL AND x.queue IS NULL AND NOT (q.ordered OR q.rank_keys) AND q.key_rate IS NULL AND k.plain AND (k.first IS NULL OR k.place IS NOT NULL) AS plain
        FROM by_key AS k CROSS JOIN unnest(lanes) AS l(lane)
        LEFT JOIN LATERAL (SELECT t.ctid AS tid, t.vtime, t.mean_ms, t.tat, t.floors, t.lease_floor, t.eligible FROM tandem.turn AS t WHERE t.queue = q.name AND t.partition_key = k.partition_key AND t.lane = l.lane ORDER BY t.seq DESC LIMIT 1) AS t ON true
        LEFT JOIN tandem.key AS x ON x.queue = q.name AND x.partition_key = k.partition_key
        CROSS JOIN LATERAL (SELECT CASE WHEN k.is_little AND (t.eligible OR t.floors = nothing) THEN sample ELSE 1 END AS times) AS c
        WHERE t.floors IS NULL OR k.asks AND (k.drawn OR (k.is_little AND (t.eligible OR t.floors = nothing)) IS NOT TRUE)
              OR CASE WHEN k.place IS NOT NULL THEN coalesce(t.floors[k.place] > k.first, true) WHEN k.first IS NOT NULL THEN NOT tandem.covers(t.floors, k.firsts) END
    ), renewed AS (
        UPDATE tandem.turn AS t SET seq = nextval('tandem.ready_position'), shelf = k.lane, rank = 0, vtime = k.vtime, mean_ms = k.mean, due_at = NULL,
            eligible = k.heads <> nothing AND coalesce(n.live < q.key_max_running OR k.partition_key = '', true), floors = k.heads, lease_floor = n.lease_floor
        FROM known AS k CROSS JOIN LATERAL tandem.count_leases(q.name, k.partition_key, k.lease_floor, CASE WHEN k.partition_key <> '' THEN q.key_max_running END) AS n
        WHERE k.plain AND t.ctid = k.tid RETURNING t.shelf, t.vtime, t.eligible
    ), shelf AS (SELECT x.shelf, x.rank, min(x.start) AS start FROM (SELECT r.shelf, 0::smallint AS rank, r.vtime AS start FROM renewed AS r WHERE r.eligible
              UNION ALL SELECT a.shelf, a.rank, a.start FROM unnest(st.shelves, st.ranks, st.starts) AS a(shelf, rank, start)) AS x GROUP BY x.shelf, x.rank)
    SELECT array_agg(t.partition_key) AS keys, array_agg(t.lane) AS lanes, array_agg(t.vtime) AS vtimes, array_agg(t.mean) AS means, array_agg(t.tat) AS tats, CASE WHEN bool_or(t.firsts <> nothing) THEN array_agg(t.firsts) END AS firsts,  -- for all lanes: the sweep may remind of a kind's
           (SELECT array_agg(s.shelf) FROM shelf AS s) AS shelves, (SELECT array_agg(s.rank) FROM shelf AS s) AS ranks, (SELECT array_agg(s.start) FROM shelf AS s) AS starts,
           (SELECT max(g.pos) FROM gone AS g) AS last, (SELECT count(*) FROM gone) AS heard, (SELECT sum(k.ran) FROM by_key AS k) AS ran, (SELECT sum(k.ended) FROM by_key AS k)::bigint AS ended
    INTO said FROM known AS t WHERE NOT t.plain;
    st.shelves := coalesce(said.shelves, '{}'); st.ranks := coalesce(said.ranks, '{}'); st.starts := coalesce(said.starts, '{}');
    st.heard := greatest(st.heard, said.last + 1); st.probed_at := CASE WHEN probes AND said.heard < 1000 THEN at ELSE st.probed_at END;
    st.mean_ms := tandem.next_mean(st.mean_ms, said.ran, said.ended);
    RETURN CASE WHEN said.keys IS NULL THEN st ELSE tandem.place_turns(q, st, at, said.keys, said.lanes, said.vtimes, said.means, said.tats, said.firsts, limited) END;
END
$$;
