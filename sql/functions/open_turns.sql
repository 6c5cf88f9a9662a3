-- tandem.open_turns(...): up to `want` turns that may go on, by rank and then the least run time; those of one shelf only as
-- its kind has room, and only exempt keys (rank 10) where the global limit is reached. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.open_turns(
    queue_name text, st tandem.admission, want bigint, global_room bigint, kinds text[], kind_rooms bigint[]
) RETURNS TABLE (partition_key text, lane text, rank smallint, vtime double precision, floors bigint[], mean_ms double precision,
                 tat timestamptz, lease_floor bigint, tid tid)
LANGUAGE sql STABLE
AS $$
SELECT t.partition_key, t.lane, t.rank, t.vtime, t.floors, t.mean_ms, t.tat, t.lease_floor, t.tid
FROM unnest(st.shelves, st.ranks, st.starts) AS s(shelf, rank, start)
LEFT JOIN unnest(kinds, kind_rooms) AS k(kind, room) ON k.kind = s.shelf
CROSS JOIN (SELECT CASE WHEN want <= 8 THEN want ELSE least(want, ceil((want + 10) / greatest(1, st.per_turn)))::bigint END AS most) AS n
CROSS JOIN LATERAL (
    SELECT o.partition_key, o.lane, o.rank, o.vtime, o.floors, o.mean_ms, o.tat, o.lease_floor, o.ctid AS tid FROM tandem.turn AS o
    WHERE o.queue = queue_name AND o.shelf = s.shelf AND o.rank = s.rank AND o.eligible AND o.vtime >= s.start
    ORDER BY o.vtime LIMIT greatest(0, least(n.most, coalesce(k.room, want)))) AS t
WHERE s.start < 'infinity' AND coalesce(k.room, 1) > 0 AND (coalesce(global_room, 1) > 0 OR s.rank = 10)
ORDER BY t.rank DESC, t.vtime LIMIT want
$$;
