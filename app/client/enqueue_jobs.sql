-- Enqueues many jobs in the caller's transaction; one row per job in the order given.
SELECT e.job_id, e.created, e.same_body
FROM tandem.enqueue_jobs(
    %(kinds)s::text[], %(payloads)s::text[]::jsonb[], %(queues)s::text[], %(priorities)s::smallint[],
    %(run_ats)s::timestamptz[], %(partition_keys)s::text[], %(event_ids)s::uuid[], %(policies)s::text[]::jsonb[],
    %(contexts)s::text[]::jsonb[], %(unique_keys)s::text[], %(unique_scopes)s::text[], %(unique_periods)s::interval[],
    %(wake)s::text) AS e
ORDER BY e.ord
