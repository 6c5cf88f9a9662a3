-- tandem.fill_gap(fill): delivers to a new group what publishers that did not know it have committed since the fill's
-- snapshot, and moves the snapshot on, so that no message comes twice. The fill is finished once every transaction
-- has ended that began before the group could be seen: they have lower ids than `boundary`. Internal; the row is locked.
CREATE OR REPLACE FUNCTION tandem.fill_gap(fill bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    f record;
    found record;
BEGIN
    UPDATE tandem.topic_fill AS x SET boundary = coalesce(x.boundary, pg_current_xact_id()) WHERE x.id = fill;
    SELECT x.snapshot, x.boundary, g.queue, g.topic_id, g.version INTO f
    FROM tandem.topic_fill AS x JOIN tandem.topic_group AS g ON g.id = x.group_id WHERE x.id = fill;
    -- One statement, so one snapshot: what it sees is what the fill will have seen.
    SELECT coalesce(array_agg(m."position" ORDER BY m."position") FILTER (WHERE m."position" IS NOT NULL), '{}') AS positions,
           pg_current_snapshot() AS snapshot INTO found
    FROM tandem.message AS m
    WHERE m.topic_id = f.topic_id AND m.version < f.version AND m.xid >= pg_snapshot_xmin(f.snapshot)::text::bigint
      AND m.xid < f.boundary::text::bigint AND NOT pg_visible_in_snapshot(m.xid::text::xid8, f.snapshot);
    PERFORM tandem.deliver_again(f.topic_id, ARRAY[f.queue], found.positions);
    UPDATE tandem.topic_fill AS x
    SET snapshot = found.snapshot, delivered = x.delivered + cardinality(found.positions),
        finished_at = CASE WHEN pg_snapshot_xmin(found.snapshot) >= f.boundary THEN tandem.clock() END
    WHERE x.id = fill;
    RETURN cardinality(found.positions);
END
$$;
