-- tandem.add_message_partition(topic_id, number): makes partition `number` of a topic: positions from number * 10^9 on.
-- Made outside the parents' locks and then attached. Answers false where it is there already.
CREATE OR REPLACE FUNCTION tandem.add_message_partition(topic_id integer, number bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text := 'message_' || topic_id;
    child text := format('message_%s_%s', topic_id, number);
BEGIN
    IF to_regclass('tandem.' || parent) IS NULL THEN
        EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.message INCLUDING ALL) PARTITION BY RANGE ("position")', parent);
        EXECUTE format('ALTER TABLE tandem.message ATTACH PARTITION tandem.%I FOR VALUES IN (%s)', parent, topic_id);
    END IF;
    IF to_regclass('tandem.' || child) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.message INCLUDING ALL)', child);
    EXECUTE format('ALTER TABLE tandem.%I ATTACH PARTITION tandem.%I FOR VALUES FROM (%s) TO (%s)',
                   parent, child, number * 1000000000, (number + 1) * 1000000000);
    RETURN true;
END
$$;
