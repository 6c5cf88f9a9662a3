-- tandem.drop_partition(number, survivors): drops a partition of job, done and attempt; the survivors move to the
-- default partitions (job_kept, ...), so that one of them never holds back the drop. Waits at most lock_timeout.
-- A job that came back meanwhile (a redrive) raises object_in_use (55006): nothing is dropped.
CREATE OR REPLACE FUNCTION tandem.drop_partition(number bigint, survivors bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := number * 100000000;
    past bigint := (number + 1) * 100000000;
    parent text;
    child text;
    id_column text;
    names text;
BEGIN
    LOCK TABLE tandem.job, tandem.done, tandem.attempt IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (
        SELECT FROM (SELECT r.job_id FROM tandem.ready AS r WHERE r.job_id >= first AND r.job_id < past
                     UNION ALL SELECT l.job_id FROM tandem.lease AS l WHERE l.job_id >= first AND l.job_id < past
                     UNION ALL SELECT c.job_id FROM tandem.scheduled AS c WHERE c.job_id >= first AND c.job_id < past
                     UNION ALL SELECT w.job_id FROM tandem.dependent AS w WHERE w.job_id >= first AND w.job_id < past
                     UNION ALL SELECT b.job_id FROM tandem.blocked AS b WHERE b.job_id >= first AND b.job_id < past) AS m
        WHERE m.job_id <> ALL (survivors)) THEN
        RAISE EXCEPTION 'partition % has unfinished jobs that are not among the survivors', number USING ERRCODE = 'object_in_use';
    END IF;
    FOREACH parent IN ARRAY ARRAY['attempt', 'done', 'job'] LOOP
        child := format('%s_%s', parent, number);
        id_column := CASE parent WHEN 'job' THEN 'id' ELSE 'job_id' END;
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO names FROM pg_attribute AS a
        WHERE a.attrelid = format('tandem.%I', parent)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
        EXECUTE format('ALTER TABLE tandem.%I DETACH PARTITION tandem.%I', parent, child);
        EXECUTE format('INSERT INTO tandem.%I (%s) SELECT %s FROM tandem.%I WHERE %I = ANY ($1)', parent, names, names, child, id_column)
            USING survivors;
        EXECUTE format('DROP TABLE tandem.%I', child);
    END LOOP;
    RETURN cardinality(survivors);
END
$$;
