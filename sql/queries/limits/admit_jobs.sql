-- Finishes the given jobs, then claims up to `want` of a managed queue under its limits. The first row is about the whole.
SELECT a.finished, a.due, a.job_id, a.pos, a.queue, a.priority, a.attempt, a.crashes, a.suspect, a.partition_key, a.ready_at,
       a.claimed_at, a.kind, a.payload, a.event_id, a.policy, a.context, a.created_at, a.cancelled
FROM tandem.admit_jobs(
    %(queue)s::text, %(want)s::integer, %(worker)s::uuid, %(token)s::bigint, %(lease)s::interval, %(thorough)s::boolean,
    %(job_ids)s::bigint[], %(tokens)s::bigint[], %(ran_ms)s::float8[], %(results)s::text[], %(ttls)s::float8[]) AS a
