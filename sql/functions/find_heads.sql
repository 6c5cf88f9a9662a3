-- tandem.find_heads(queue, key, lane, floors, firsts): for each band the lowest position that waits, looked for from the
-- lower one of floor and what came; `best` is the highest band with one. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.find_heads(queue_name text, key text, lane_name text, floors bigint[], firsts bigint[])
RETURNS TABLE (heads bigint[], best integer)
LANGUAGE sql STABLE
AS $$
SELECT h.heads, (SELECT max(b) - 1 FROM generate_subscripts(h.heads, 1) AS b WHERE h.heads[b] IS NOT NULL)
FROM (SELECT ARRAY(
    SELECT CASE WHEN coalesce(l.floor, l.first) IS NOT NULL THEN (  -- most bands have nothing: look only where something may be
        SELECT b.pos FROM tandem.blocked AS b
        WHERE b.queue = queue_name AND b.partition_key = key AND b.lane = lane_name AND b.band = l.nth - 1
          AND b.pos >= least(l.floor, l.first)
        ORDER BY b.pos LIMIT 1) END
    FROM unnest(floors, firsts) WITH ORDINALITY AS l(floor, first, nth)) AS heads OFFSET 0) AS h
$$;
