-- tandem.count_room(queue, state): how many jobs more the limits allow: in the queue, over all managed queues without exempt
-- keys, and by limited kind (NULL: no limit); and the lowest slot of the queue that lives. Internal to admission: the rows of
-- the limits are locked, so that nobody admits between this count and the caller's commit.
CREATE OR REPLACE FUNCTION tandem.count_room(
    q tandem.queue, st tandem.admission, OUT queue_room bigint, OUT global_room bigint, OUT kinds text[], OUT kind_rooms bigint[],
    OUT slot_floor bigint
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    global_limit integer;
    limits integer[];
BEGIN
    slot_floor := st.slot_floor;
    PERFORM FROM tandem.concurrency_limit AS c ORDER BY c.name FOR NO KEY UPDATE;
    SELECT min(c.max_running) FILTER (WHERE c.name = 'global'), array_agg(substr(c.name, 6) ORDER BY c.name) FILTER (WHERE c.name <> 'global'),
           array_agg(c.max_running ORDER BY c.name) FILTER (WHERE c.name <> 'global')
    INTO global_limit, kinds, limits FROM tandem.concurrency_limit AS c;
    IF q.max_running IS NULL AND global_limit IS NULL AND kinds IS NULL THEN
        RETURN;
    END IF;
    WITH place AS MATERIALIZED (
        SELECT m.name, CASE WHEN m.name = q.name THEN st.slot_floor ELSE coalesce((
                   SELECT a.slot_floor FROM tandem.admission AS a WHERE a.queue = m.name ORDER BY a.seq DESC LIMIT 1), 0) END AS floor
        FROM tandem.queue AS m WHERE m.managed AND (m.name = q.name OR global_limit IS NOT NULL OR kinds IS NOT NULL)
    ), live AS MATERIALIZED (
        SELECT p.name, l.kind, l.exempt, l.slot FROM place AS p CROSS JOIN LATERAL (
            SELECT s.kind, s.exempt, s.slot FROM tandem.lease AS s WHERE s.queue = p.name AND s.exempt IS NOT NULL AND s.slot >= p.floor OFFSET 0) AS l
    )
    SELECT q.max_running - count(*) FILTER (WHERE l.name = q.name), global_limit - count(*) FILTER (WHERE NOT l.exempt),
           coalesce(min(l.slot) FILTER (WHERE l.name = q.name), (SELECT p.last_value FROM tandem.ready_position AS p)),
           (SELECT array_agg(u.most - (SELECT count(*) FROM live AS x WHERE x.kind = u.kind) ORDER BY u.ord)
            FROM unnest(kinds, limits) WITH ORDINALITY AS u(kind, most, ord))
    INTO queue_room, global_room, slot_floor, kind_rooms FROM live AS l;
END
$$;
