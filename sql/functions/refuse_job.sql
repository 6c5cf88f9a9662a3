-- tandem.refuse_job(kind, queue, priority, partition_key): raises check_violation (23514) for what tandem.fits_job
-- does not let pass, and names it. Internal. Its type is that of a kind, so that it can stand where one is expected.
CREATE OR REPLACE FUNCTION tandem.refuse_job(kind text, queue text, priority integer, partition_key text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT tandem.fits_job(kind, 'default', 5, NULL) THEN
        RAISE EXCEPTION 'kind "%" is not a name', kind USING ERRCODE = 'check_violation', CONSTRAINT = 'job_kind_name',
            HINT = 'Lower-case letters, digits, ''_'', ''.'', ''-'', a letter first, at most 63.';
    ELSIF NOT tandem.fits_job('test', queue, 5, NULL) THEN
        RAISE EXCEPTION 'queue "%" is not a name', queue USING ERRCODE = 'check_violation', CONSTRAINT = 'job_queue_name',
            HINT = 'Lower-case letters, digits, ''_'', ''.'', ''-'', a letter first, at most 63.';
    ELSIF priority NOT BETWEEN 0 AND 9 THEN
        RAISE EXCEPTION 'priority % is not from 0 to 9', priority USING ERRCODE = 'check_violation', CONSTRAINT = 'job_priority';
    END IF;
    RAISE EXCEPTION 'a partition key has 1 to 255 characters, not %', length(partition_key)
        USING ERRCODE = 'check_violation', CONSTRAINT = 'job_partition_key';
END
$$;
