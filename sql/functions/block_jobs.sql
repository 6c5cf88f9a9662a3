-- tandem.block_jobs(...): lets jobs of managed queues wait for admission, and says so to it, one element each. Internal.
-- `again` says that they ran or were delayed before: in an unordered queue they go behind those that wait, in an
-- ordered one to their old place. STRICT: with NULL (no such job in the caller's statement) it is not even called.
CREATE OR REPLACE FUNCTION tandem.block_jobs(
    ids bigint[], queues text[], partition_keys text[], priorities smallint[], attempts smallint[], crashes smallint[],
    suspects boolean[], sinces timestamptz[], not_befores timestamptz[], again boolean
) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    WITH input AS MATERIALIZED (
        SELECT u.id, u.queue, coalesce(u.partition_key, '') AS partition_key, u.priority, u.attempt, u.crashes, u.suspect, u.since,
               u.not_before, coalesce(q.ordered, false) AS ordered
        FROM unnest(ids, queues, partition_keys, priorities, attempts, crashes, suspects, sinces, not_befores)
            AS u(id, queue, partition_key, priority, attempt, crashes, suspect, since, not_before)
        LEFT JOIN tandem.queue AS q ON q.name = u.queue
    ), waits AS (
        INSERT INTO tandem.blocked
            (queue, partition_key, band, pos, job_id, blocked_at, not_before, priority, attempt, crashes, suspect, waiting_for)
        SELECT queue, partition_key, CASE WHEN ordered THEN 0 ELSE priority END,
               CASE WHEN again AND NOT ordered THEN nextval('tandem.job_id') ELSE id END,
               id, since, not_before, priority, attempt, crashes, suspect, CASE WHEN ordered THEN 'key' ELSE 'limit' END
        FROM input
        RETURNING queue, partition_key, band, pos
    )
    INSERT INTO tandem.touch (queue, partition_key, band, first)
    SELECT w.queue, w.partition_key, w.band, min(w.pos) FROM waits AS w GROUP BY w.queue, w.partition_key, w.band;
    RETURN cardinality(ids);
END
$$;
