-- Enqueues many jobs of which some wait for others or have a start deadline, in the caller's transaction; one row per job in the order given.
SELECT e.job_id, e.created, e.same_body,
       CASE WHEN e.created AND a.jobs IS NOT NULL THEN tandem.wait_for(e.job_id, a.jobs::bigint[], a.on_failure) END AS waits,
       CASE WHEN e.created AND a.start_by IS NOT NULL THEN tandem.start_by(e.job_id, a.start_by) END AS expires
FROM tandem.enqueue_jobs(
    %(kinds)s::text[], %(payloads)s::text[]::jsonb[], %(queues)s::text[], %(priorities)s::smallint[],
    %(run_ats)s::timestamptz[], %(partition_keys)s::text[], %(event_ids)s::uuid[], %(policies)s::text[]::jsonb[],
    %(contexts)s::text[]::jsonb[], %(unique_keys)s::text[], %(unique_scopes)s::text[], %(unique_periods)s::interval[],
    %(wake)s::text) AS e
JOIN unnest(%(afters)s::text[], %(on_failures)s::text[], %(start_bys)s::timestamptz[])
    WITH ORDINALITY AS a(jobs, on_failure, start_by, ord) ON a.ord = e.ord
ORDER BY e.ord
