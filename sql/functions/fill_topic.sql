-- tandem.fill_topic(fill, most): delivers the next messages of one fill and answers how many; NULL when it is finished,
-- gone, or in other hands. First the history that its snapshot saw, in order of positions, `most` at a time. Then, for a
-- new group, what publishers that did not know it committed later (tandem.fill_gap).
CREATE OR REPLACE FUNCTION tandem.fill_topic(fill bigint, most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    f record;
    found bigint[];
BEGIN
    PERFORM pg_current_xact_id();
    SELECT x.id, x.reason, x.cursor, x.to_position, x.snapshot, x.history_done, g.queue, g.topic_id INTO f
    FROM tandem.topic_fill AS x JOIN tandem.topic_group AS g ON g.id = x.group_id
    WHERE x.id = fill AND x.finished_at IS NULL FOR UPDATE OF x SKIP LOCKED;
    IF f.id IS NULL THEN
        RETURN NULL;
    ELSIF f.history_done THEN
        RETURN tandem.fill_gap(fill);
    END IF;
    SELECT coalesce(array_agg(u."position" ORDER BY u."position"), '{}') INTO found FROM (
        SELECT m."position" FROM tandem.message AS m
        WHERE m.topic_id = f.topic_id AND m."position" > f.cursor AND m."position" <= f.to_position
          AND pg_visible_in_snapshot(m.xid::text::xid8, f.snapshot) ORDER BY m."position" LIMIT most) AS u;
    PERFORM tandem.deliver_again(f.topic_id, ARRAY[f.queue], found);
    UPDATE tandem.topic_fill AS x
    SET cursor = coalesce(found[cardinality(found)], x.cursor), delivered = x.delivered + cardinality(found),
        history_done = cardinality(found) < most,
        finished_at = CASE WHEN cardinality(found) < most AND x.reason <> 'start' THEN tandem.clock() END
    WHERE x.id = fill;
    RETURN cardinality(found);
END
$$;
