-- tandem.start_by(job, deadline): lets a job that this transaction has just enqueued expire, as a dead letter of class
-- `expired`, if its first try has not started by then; answers its id.
CREATE OR REPLACE FUNCTION tandem.start_by(job bigint, deadline timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told text := to_char(deadline AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
BEGIN
    IF NOT tandem.is_enqueued_here(job) THEN
        RAISE EXCEPTION 'job % was not enqueued by this transaction: it can no longer get a deadline', job
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Say it when you enqueue the job.';
    END IF;
    IF deadline IS NULL OR NOT isfinite(deadline) OR deadline > tandem.clock() + interval '367 days' THEN
        RAISE EXCEPTION 'a start deadline is at most 366 days ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- In the policy, which a claim brings along: so that claims need not look for deadlines.
    UPDATE tandem.job AS j SET policy = CASE WHEN jsonb_typeof(j.policy) = 'object' THEN j.policy ELSE '{}' END
                                        || jsonb_build_object('start_by', told) WHERE j.id = job;
    INSERT INTO tandem.start_deadline (start_by, job_id) VALUES (deadline, job);
    RETURN job;
END
$$;
