-- Ends leased jobs as DEAD or CANCELLED, fenced by token, and keeps the failed try. Answers what a hook needs.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: finish_jobs says why.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token, u.ran_ms, u.outcome, u.error_class, u.fingerprint, u.message, u.traceback
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[], %(ran_ms)s::float8[], %(outcomes)s::text[],
                %(error_classes)s::text[], %(fingerprints)s::text[], %(messages)s::text[], %(tracebacks)s::text[])
        AS u(job_id, token, ran_ms, outcome, error_class, fingerprint, message, traceback)
    ORDER BY u.job_id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
    RETURNING l.job_id, l.token, l.worker, l.attempt, i.ran_ms, i.outcome, i.error_class, i.fingerprint, i.message, i.traceback,
              l.queue, l.partition_key, l.slot, l.charged_ms
), told AS (  -- admission hears that a slot is free
    INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
    SELECT queue, coalesce(partition_key, ''), count(*), sum(ran_ms), sum(charged_ms)
    FROM gone WHERE slot IS NOT NULL GROUP BY 1, 2
), halt AS (
    INSERT INTO tandem.halted (queue, partition_key, job_id, halted_at)
    SELECT g.queue, g.partition_key, g.job_id, c.at FROM gone AS g CROSS JOIN clock AS c JOIN tandem.queue AS q ON q.name = g.queue
    WHERE g.slot IS NOT NULL AND g.partition_key IS NOT NULL AND g.outcome = 'DEAD' AND q.ordered AND q.dead_head = 'block'
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO tandem.attempt
        (job_id, attempt, token, worker, started_at, finished_at, verdict, error_class, fingerprint, message, traceback)
    SELECT g.job_id, g.attempt, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.outcome, g.error_class,
           g.fingerprint, g.message, g.traceback
    FROM gone AS g CROSS JOIN clock AS c
), ended AS (
    DELETE FROM tandem.cancel_intent AS i USING gone AS g WHERE i.job_id = ANY (ARRAY[g.job_id])
), closed AS (
    INSERT INTO tandem.done
        (job_id, token, worker, started_at, finished_at, attempt, outcome, error_class, fingerprint, reason)
    SELECT g.job_id, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.attempt, g.outcome, g.error_class,
           g.fingerprint, coalesce(CASE WHEN g.outcome = 'CANCELLED' THEN i.reason END, g.message)
    FROM gone AS g CROSS JOIN clock AS c LEFT JOIN tandem.cancel_intent AS i ON i.job_id = g.job_id
)
SELECT g.job_id, g.attempt, NULL::timestamptz AS next_attempt_at FROM gone AS g
