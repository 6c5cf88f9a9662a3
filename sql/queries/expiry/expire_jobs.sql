-- Ends those of these jobs that wait for their first try as dead letters of class `expired`, and forgets their deadlines:
-- whoever has them now has started them, or looks at the deadline before it does. Answers what their hooks need.
-- `= ANY (ARRAY[…])` keeps rows looked up one by one: finish_jobs says why.
WITH input AS MATERIALIZED (
    SELECT j.id, j.kind, j.event_id FROM unnest(%(job_ids)s::bigint[]) AS u(id) JOIN tandem.job AS j ON j.id = u.id ORDER BY j.id
), unready AS (
    DELETE FROM tandem.ready AS m USING input AS i WHERE m.job_id = ANY (ARRAY[i.id]) AND m.attempt = 0 AND NOT m.suspect RETURNING m.job_id
), unscheduled AS (
    DELETE FROM tandem.scheduled AS m USING input AS i WHERE m.job_id = ANY (ARRAY[i.id]) AND m.attempt = 0 AND NOT m.suspect RETURNING m.job_id
), unblocked AS (
    DELETE FROM tandem.blocked AS m USING input AS i WHERE m.job_id = ANY (ARRAY[i.id]) AND m.attempt = 0 AND NOT m.suspect
    RETURNING m.job_id, m.queue, m.partition_key
), told AS (  -- in an ordered queue it may have been the head that its key waited for
    INSERT INTO tandem.touch (queue, partition_key) SELECT DISTINCT queue, partition_key FROM unblocked
), undepended AS (
    DELETE FROM tandem.dependent AS m USING input AS i WHERE m.job_id = ANY (ARRAY[i.id]) RETURNING m.job_id
), unlinked AS (
    DELETE FROM tandem.dependency AS d USING undepended AS u WHERE d.job_id = ANY (ARRAY[u.job_id])
), gone AS (
    SELECT job_id FROM unready UNION ALL SELECT job_id FROM unscheduled UNION ALL SELECT job_id FROM unblocked
    UNION ALL SELECT job_id FROM undepended
), met AS (
    DELETE FROM tandem.cancel_intent AS c USING gone AS g WHERE c.job_id = ANY (ARRAY[g.job_id])
), forgotten AS (
    DELETE FROM tandem.start_deadline AS d USING unnest(%(job_ids)s::bigint[], %(deadlines)s::timestamptz[]) AS u(id, start_by)
    WHERE d.start_by = u.start_by AND d.job_id = u.id
), closed AS (
    INSERT INTO tandem.done (job_id, finished_at, attempt, outcome, error_class, fingerprint, reason)
    SELECT g.job_id, tandem.clock(), 0, 'DEAD', 'expired', 'expired', %(reason)s FROM gone AS g
)
SELECT g.job_id, i.kind, i.event_id, 0::smallint AS attempt, NULL::timestamptz AS next_attempt_at, %(reason)s::text AS reason
FROM gone AS g JOIN input AS i ON i.id = g.job_id
