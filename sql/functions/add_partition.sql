-- tandem.add_partition(number): makes partition `number` (ids from number * 10^8 on) of job, done and attempt.
-- The tables are made outside the parents' locks and then attached. Answers false where it is there already.
CREATE OR REPLACE FUNCTION tandem.add_partition(number bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent text;
    child text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['job', 'done', 'attempt'] LOOP
        child := format('%s_%s', parent, number);
        IF to_regclass('tandem.' || child) IS NOT NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('CREATE TABLE tandem.%I (LIKE tandem.%I INCLUDING ALL)', child, parent);
        EXECUTE format('ALTER TABLE tandem.%I ATTACH PARTITION tandem.%I FOR VALUES FROM (%s) TO (%s)',
                       parent, child, number * 100000000, (number + 1) * 100000000);
    END LOOP;
    RETURN true;
END
$$;
