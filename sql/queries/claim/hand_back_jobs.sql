-- Hands claimed jobs back unstarted: the attempt is refunded, the position is fresh (in an ordered queue the old one). With
-- `started` handlers had them (they snoozed, or their worker stops): the audit log of topics will tell it of deliveries.
-- A job with a cancel intent goes back too; whoever claims it next ends it.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: finish_jobs says why.
WITH input AS MATERIALIZED (
    SELECT u.job_id, u.token FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token) ORDER BY u.job_id
), gone AS (
    DELETE FROM tandem.lease AS l USING input AS i WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
    RETURNING l.job_id, l.worker, l.claimed_at, l.priority, l.attempt, l.crashes, l.suspect, l.queue, l.partition_key, l.slot,
              l.charged_ms
), noted AS (
    INSERT INTO tandem.delivery_end (xid, queue, action, worker, attempt, started_at, ended_at, job_ids)
    SELECT pg_current_xact_id(), queue, 'nack', worker, attempt, min(claimed_at), tandem.clock(), array_agg(job_id)
    FROM gone WHERE %(started)s::boolean AND starts_with(queue, 'topic.') GROUP BY queue, worker, attempt
), told AS (  -- admission hears that a slot is free
    INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
    SELECT queue, coalesce(partition_key, ''), 0, 0, sum(charged_ms)
    FROM gone WHERE slot IS NOT NULL GROUP BY 1, 2
), line AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS managed,
           ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed AND q.ordered) AS ordered
), sorted AS (
    SELECT g.job_id, g.priority, (g.attempt - 1)::smallint AS attempt, g.crashes, g.suspect, g.queue, g.partition_key,
           g.queue = ANY (l.managed) AS managed, g.queue = ANY (l.ordered) AND g.partition_key IS NOT NULL AS keeps
    FROM gone AS g CROSS JOIN line AS l
), later AS (
    INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT tandem.clock() + %(delay)s::interval, job_id, priority, attempt, crashes, suspect, queue, partition_key
    FROM sorted WHERE %(delay)s::interval > '0' AND NOT keeps
), back AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), job_id, tandem.clock(), priority, attempt, crashes, suspect, queue, partition_key
    FROM sorted WHERE %(delay)s::interval <= '0' AND NOT managed
), waits AS MATERIALIZED (
    SELECT tandem.block_jobs(array_agg(job_id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(attempt),
               array_agg(crashes), array_agg(suspect), array_agg(c.at),
               array_agg(CASE WHEN %(delay)s::interval > '0' THEN c.at + %(delay)s::interval END), true)
    FROM sorted CROSS JOIN (SELECT tandem.clock() AS at) AS c WHERE keeps OR (managed AND %(delay)s::interval <= '0')
)
SELECT g.job_id, g.queue FROM gone AS g CROSS JOIN waits
