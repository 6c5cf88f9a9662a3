-- Sends failed jobs back for another try after their delay, fenced by token, and keeps the failed try.
-- A job somebody asked to cancel is left leased: the answer lacks it and the caller closes it as CANCELLED.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token, u.ran_ms, u.delay, u.crashes, u.error_class, u.fingerprint, u.message, u.traceback
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[], %(ran_ms)s::float8[], %(delays)s::interval[],
                %(crashes)s::smallint[], %(error_classes)s::text[], %(fingerprints)s::text[], %(messages)s::text[],
                %(tracebacks)s::text[])
        AS u(job_id, token, ran_ms, delay, crashes, error_class, fingerprint, message, traceback)
    WHERE NOT EXISTS (SELECT FROM tandem.cancel_intent AS c WHERE c.job_id = u.job_id)
    ORDER BY u.job_id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i WHERE l.job_id = i.job_id AND l.token = i.token
    RETURNING l.job_id, l.token, l.worker, l.attempt, l.priority, l.queue, l.partition_key, i.ran_ms, i.delay,
              i.crashes, i.error_class, i.fingerprint, i.message, i.traceback
), noted AS (
    INSERT INTO tandem.attempt
        (job_id, attempt, token, worker, started_at, finished_at, verdict, error_class, fingerprint, message, traceback)
    SELECT g.job_id, g.attempt, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, 'RETRY', g.error_class,
           g.fingerprint, g.message, g.traceback
    FROM gone AS g CROSS JOIN clock AS c
), later AS (
    INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT c.at + g.delay, g.job_id, g.priority, g.attempt, g.crashes, false, g.queue, g.partition_key
    FROM gone AS g CROSS JOIN clock AS c WHERE g.delay > '0'
), again AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), g.job_id, c.at, g.priority, g.attempt, g.crashes, false, g.queue, g.partition_key
    FROM gone AS g CROSS JOIN clock AS c WHERE g.delay <= '0'
)
SELECT g.job_id, g.attempt, c.at + g.delay AS next_attempt_at FROM gone AS g CROSS JOIN clock AS c
