-- tandem.find_heads(queue, key, lane, floors, firsts): for each band the lowest position that waits, looked for from the
-- lower one of floor and what came; `best` is the highest band with one. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.find_heads(queue_name text, key text, lane_name text, floors bigint[], firsts bigint[])
RETURNS TABLE (heads bigint[], best integer)
LANGUAGE sql STABLE
AS $$
SELECT array_agg(h.head ORDER BY g.band), max(g.band) FILTER (WHERE h.head IS NOT NULL)
FROM generate_series(0, 9) AS g(band)
LEFT JOIN LATERAL (
    SELECT b.pos AS head FROM tandem.blocked AS b
    WHERE b.queue = queue_name AND b.partition_key = key AND b.lane = lane_name AND b.band = g.band
      AND b.pos >= least(floors[g.band + 1], firsts[g.band + 1])
    ORDER BY b.pos LIMIT 1) AS h ON true
$$;
