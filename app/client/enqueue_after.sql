-- Enqueues many jobs of which some wait for others, in the caller's transaction; one row per job in the order given.
SELECT e.job_id, e.created, e.same_body,
       CASE WHEN e.created AND a.jobs IS NOT NULL THEN tandem.wait_for(e.job_id, a.jobs::bigint[], a.on_failure) END AS waits
FROM tandem.enqueue_jobs(
    %(kinds)s::text[], %(payloads)s::text[]::jsonb[], %(queues)s::text[], %(priorities)s::smallint[],
    %(run_ats)s::timestamptz[], %(partition_keys)s::text[], %(event_ids)s::uuid[], %(policies)s::text[]::jsonb[],
    %(contexts)s::text[]::jsonb[], %(unique_keys)s::text[], %(unique_scopes)s::text[], %(unique_periods)s::interval[],
    %(wake)s::text) AS e
JOIN unnest(%(afters)s::text[], %(on_failures)s::text[]) WITH ORDINALITY AS a(jobs, on_failure, ord) ON a.ord = e.ord
ORDER BY e.ord
