-- tandem.move_waiting(queue, most): moves up to `most` waiting jobs to where they belong, now that the queue is managed or
-- no longer is: from `ready` to `blocked` or back. Answers how many; also counts what runs among what limits count.
CREATE OR REPLACE FUNCTION tandem.move_waiting(queue_name text, most integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moved bigint;
BEGIN
    PERFORM pg_current_xact_id(), tandem.wake_at_commit(tandem.wake_lane(queue_name));
    IF EXISTS (SELECT FROM tandem.queue AS q WHERE q.name = queue_name AND q.managed FOR NO KEY UPDATE) THEN
        UPDATE tandem.lease AS l SET slot = nextval('tandem.ready_position'), kind = j.kind, exempt = false, charged_ms = 0
        FROM tandem.job AS j WHERE l.queue = queue_name AND l.slot IS NULL AND j.id = l.job_id;
        WITH gone AS (
            DELETE FROM tandem.ready AS r USING (
                SELECT o.ctid AS tid FROM tandem.ready AS o WHERE o.queue = queue_name LIMIT most FOR UPDATE SKIP LOCKED) AS f
            WHERE r.ctid = f.tid
            RETURNING r.job_id, r.queue, r.partition_key, r.priority, r.attempt, r.crashes, r.suspect, r.ready_at
        )
        SELECT tandem.block_jobs(array_agg(job_id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(attempt),
                   array_agg(crashes), array_agg(suspect), array_agg(ready_at), array_agg(NULL::timestamptz), false)
        INTO moved FROM (SELECT * FROM gone ORDER BY priority DESC, job_id) AS g;
        RETURN coalesce(moved, 0);
    END IF;
    WITH gone AS (
        DELETE FROM tandem.blocked AS b USING (
            SELECT o.ctid AS tid FROM tandem.blocked AS o WHERE o.queue = queue_name ORDER BY o.band DESC, o.pos LIMIT most
            FOR UPDATE SKIP LOCKED) AS f
        WHERE b.ctid = f.tid
        RETURNING b.job_id, b.partition_key, b.priority, b.attempt, b.crashes, b.suspect, b.blocked_at, b.pos
    ), back AS (
        INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
        SELECT nextval('tandem.ready_position'), g.job_id, g.blocked_at, g.priority, g.attempt, g.crashes, g.suspect, queue_name,
               nullif(g.partition_key, '')
        FROM (SELECT * FROM gone ORDER BY pos) AS g RETURNING job_id
    )
    SELECT count(*) INTO moved FROM back;
    RETURN moved;
END
$$;
