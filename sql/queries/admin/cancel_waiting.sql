-- Ends waiting jobs whose cancel was asked for, wherever they wait, and answers what their hooks need.
-- Kinds with a hook that the caller does not know stay: whoever claims them, or a sweeper that knows it, ends them.
-- `= ANY (ARRAY[…])` keeps rows looked up one by one: finish_jobs says why.
WITH asked AS MATERIALIZED (
    SELECT j.id, j.kind, j.queue, j.event_id, i.requested_by AS asked_by, coalesce(i.reason, 'cancelled before it started') AS reason
    FROM tandem.cancel_intent AS i
    JOIN tandem.job AS j ON j.id = i.job_id LEFT JOIN tandem.kind AS k ON k.name = j.kind
    WHERE i.job_id = ANY (%(job_ids)s::bigint[]) AND (k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[]))
    ORDER BY j.id
), unready AS (
    DELETE FROM tandem.ready AS m USING asked AS a WHERE m.job_id = ANY (ARRAY[a.id]) RETURNING m.job_id, m.attempt
), unscheduled AS (
    DELETE FROM tandem.scheduled AS m USING asked AS a WHERE m.job_id = ANY (ARRAY[a.id]) RETURNING m.job_id, m.attempt
), unblocked AS (
    DELETE FROM tandem.blocked AS m USING asked AS a WHERE m.job_id = ANY (ARRAY[a.id])
    RETURNING m.job_id, m.attempt, m.queue, m.partition_key
), told AS (  -- in an ordered queue it may have been the head that its key waited for
    INSERT INTO tandem.touch (queue, partition_key) SELECT DISTINCT queue, partition_key FROM unblocked
), undepended AS (
    DELETE FROM tandem.dependent AS m USING asked AS a WHERE m.job_id = ANY (ARRAY[a.id]) RETURNING m.job_id
), unlinked AS (
    DELETE FROM tandem.dependency AS d USING asked AS a WHERE d.job_id = ANY (ARRAY[a.id])
), gone AS (
    SELECT job_id, attempt FROM unready
    UNION ALL SELECT job_id, attempt FROM unscheduled
    UNION ALL SELECT job_id, attempt FROM unblocked
    UNION ALL SELECT job_id, 0::smallint FROM undepended
), met AS (
    DELETE FROM tandem.cancel_intent AS i USING gone AS g WHERE i.job_id = ANY (ARRAY[g.job_id])
), closed AS (
    INSERT INTO tandem.done (job_id, finished_at, attempt, outcome, error_class, fingerprint, reason)
    SELECT g.job_id, tandem.clock(), g.attempt, 'CANCELLED', 'cancelled', 'cancelled', a.reason
    FROM gone AS g JOIN asked AS a ON a.id = g.job_id
)
SELECT g.job_id, a.kind, a.queue, a.asked_by, a.event_id, g.attempt, NULL::timestamptz AS next_attempt_at, a.reason
FROM gone AS g JOIN asked AS a ON a.id = g.job_id
