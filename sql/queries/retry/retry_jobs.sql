-- Sends failed jobs back for another try after their delay, fenced by token, and keeps the failed try.
-- A job somebody asked to cancel is left leased: the answer lacks it and the caller closes it as CANCELLED.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: finish_jobs says why.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token, u.ran_ms, u.delay, u.crashes, u.error_class, u.fingerprint, u.message, u.traceback
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[], %(ran_ms)s::float8[], %(delays)s::interval[],
                %(crashes)s::smallint[], %(error_classes)s::text[], %(fingerprints)s::text[], %(messages)s::text[],
                %(tracebacks)s::text[])
        AS u(job_id, token, ran_ms, delay, crashes, error_class, fingerprint, message, traceback)
    WHERE NOT EXISTS (SELECT FROM tandem.cancel_intent AS c WHERE c.job_id = u.job_id)
    ORDER BY u.job_id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
    RETURNING l.job_id, l.token, l.worker, l.attempt, l.priority, l.queue, l.partition_key, i.ran_ms, i.delay,
              i.crashes, i.error_class, i.fingerprint, i.message, i.traceback, l.slot, l.charged_ms
), told AS (  -- admission hears that a slot is free
    INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
    SELECT queue, coalesce(partition_key, ''), count(*), sum(ran_ms), sum(charged_ms)
    FROM gone WHERE slot IS NOT NULL GROUP BY 1, 2
), line AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS managed,
           ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed AND q.ordered) AS ordered
), noted AS (
    INSERT INTO tandem.attempt
        (job_id, attempt, token, worker, started_at, finished_at, verdict, error_class, fingerprint, message, traceback)
    SELECT g.job_id, g.attempt, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, 'RETRY', g.error_class,
           g.fingerprint, g.message, g.traceback
    FROM gone AS g CROSS JOIN clock AS c
), sorted AS (  -- in a managed queue the job waits for admission, in an ordered one at its old place
    SELECT g.job_id, g.priority, g.attempt, g.crashes, g.delay, g.queue, g.partition_key, g.queue = ANY (l.managed) AS managed,
           g.queue = ANY (l.ordered) AND g.partition_key IS NOT NULL AS keeps
    FROM gone AS g CROSS JOIN line AS l
), later AS (
    INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT c.at + g.delay, g.job_id, g.priority, g.attempt, g.crashes, false, g.queue, g.partition_key
    FROM sorted AS g CROSS JOIN clock AS c WHERE g.delay > '0' AND NOT g.keeps
), again AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), g.job_id, c.at, g.priority, g.attempt, g.crashes, false, g.queue, g.partition_key
    FROM sorted AS g CROSS JOIN clock AS c WHERE g.delay <= '0' AND NOT g.managed
), waits AS MATERIALIZED (
    SELECT tandem.block_jobs(array_agg(job_id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(attempt),
               array_agg(g.crashes), array_agg(false), array_agg(c.at), array_agg(CASE WHEN delay > '0' THEN c.at + delay END), true)
    FROM sorted AS g CROSS JOIN clock AS c WHERE g.keeps OR (g.managed AND g.delay <= '0')
)
SELECT g.job_id, g.attempt, c.at + g.delay AS next_attempt_at FROM gone AS g CROSS JOIN clock AS c CROSS JOIN waits
