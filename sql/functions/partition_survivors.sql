-- tandem.partition_survivors(number, before, most): ids of a partition that must outlive it: jobs that have not ended,
-- jobs that others wait for, and jobs that ended after `before`. NULL when the partition is not old enough (its newest job is younger than
-- `before`) or has more than `most` survivors: then it is not worth dropping yet.
CREATE OR REPLACE FUNCTION tandem.partition_survivors(number bigint, before timestamptz, most integer) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := number * 100000000;
    past bigint := (number + 1) * 100000000;
    survivors bigint[];
BEGIN
    IF coalesce((SELECT j.created_at > before FROM tandem.job AS j WHERE j.id >= first AND j.id < past
                 ORDER BY j.id DESC LIMIT 1), false) THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(array_agg(s.job_id), '{}') INTO survivors FROM (
        SELECT u.job_id FROM (
            SELECT r.job_id FROM tandem.ready AS r WHERE r.job_id >= first AND r.job_id < past
            UNION SELECT l.job_id FROM tandem.lease AS l WHERE l.job_id >= first AND l.job_id < past
            UNION SELECT c.job_id FROM tandem.scheduled AS c WHERE c.job_id >= first AND c.job_id < past
            UNION SELECT b.job_id FROM tandem.blocked AS b WHERE b.job_id >= first AND b.job_id < past
            UNION SELECT w.job_id FROM tandem.dependent AS w WHERE w.job_id >= first AND w.job_id < past
            UNION SELECT n.after_job FROM tandem.dependency AS n WHERE n.after_job >= first AND n.after_job < past
            UNION SELECT d.job_id FROM tandem.done AS d WHERE d.job_id >= first AND d.job_id < past AND d.finished_at > before
        ) AS u LIMIT most + 1) AS s;
    RETURN CASE WHEN cardinality(survivors) <= most THEN survivors END;
END
$$;
