-- tandem.insert_jobs(...): writes jobs under ids already drawn, and their membership rows. Elements whose id is
-- NULL are left out. Internal: enqueue_jobs and enqueue_unique call it.
CREATE OR REPLACE FUNCTION tandem.insert_jobs(
    at timestamptz, ids bigint[], kinds text[], payloads jsonb[], queues text[], priorities smallint[],
    run_ats timestamptz[], partition_keys text[], event_ids uuid[], policies jsonb[], contexts jsonb[]
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
WITH input AS MATERIALIZED (
    SELECT u.id, CASE WHEN tandem.fits_job(u.kind, d.queue, d.priority, u.partition_key) IS FALSE
                      THEN tandem.refuse_job(u.kind, d.queue, d.priority, u.partition_key) ELSE u.kind END AS kind,
           u.payload, d.queue, d.priority, u.run_at, u.partition_key, u.event_id, u.policy, u.context
    FROM unnest(ids, kinds, payloads, queues, priorities, run_ats, partition_keys, event_ids, policies, contexts)
        AS u(id, kind, payload, queue, priority, run_at, partition_key, event_id, policy, context)
    CROSS JOIN LATERAL (SELECT coalesce(u.queue, 'default') AS queue, coalesce(u.priority, 5::smallint) AS priority) AS d
    WHERE u.id IS NOT NULL
), written AS (
    INSERT INTO tandem.job
        (id, created_at, event_id, priority, queue, kind, partition_key, payload, policy, context)
    SELECT id, at, event_id, priority, queue, kind, partition_key, payload, policy, context FROM input
), later AS (
    INSERT INTO tandem.scheduled
        (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT run_at, id, priority, 0, 0, false, queue, partition_key FROM input WHERE run_at > at
), managed AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS queues
), now AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), id, at, priority, 0, 0, false, queue, partition_key
    FROM input WHERE coalesce(run_at <= at, true) AND queue <> ALL ((SELECT m.queues FROM managed AS m)::text[])
)
SELECT tandem.block_jobs(array_agg(id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(0::smallint),
                         array_agg(0::smallint), array_agg(false), array_agg(at), array_agg(NULL::timestamptz), false)
FROM input WHERE coalesce(run_at <= at, true) AND queue = ANY ((SELECT m.queues FROM managed AS m)::text[])
$$;
