-- tandem.next_in_line(queue, key, lane, floors, most): the first jobs of a key's lane, the highest band first, each with the
-- position of the very first. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.next_in_line(queue_name text, key text, lane_name text, floors bigint[], most bigint)
RETURNS TABLE (job_id bigint, pos bigint, head bigint, nth bigint)
LANGUAGE sql STABLE
AS $$
SELECT w.job_id, w.pos, first_value(w.pos) OVER line, row_number() OVER line
FROM (SELECT g.band, b.job_id, b.pos
      FROM (SELECT f.nth - 1 AS band, f.floor FROM unnest(floors) WITH ORDINALITY AS f(floor, nth)
            WHERE f.floor IS NOT NULL ORDER BY f.nth DESC) AS g
      CROSS JOIN LATERAL (
          SELECT o.job_id, o.pos FROM tandem.blocked AS o
          WHERE o.queue = queue_name AND o.partition_key = key AND o.lane = lane_name AND o.band = g.band AND o.pos >= g.floor
          ORDER BY o.pos LIMIT most) AS b
      LIMIT most) AS w
WINDOW line AS (ORDER BY w.band DESC, w.pos)
$$;
