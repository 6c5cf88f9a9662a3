-- Sends dead letters back to the start: ready under a fresh position (ordered queues: the old one), attempt and crashes 0; their failed tries stay.
-- Fenced: a row that somebody else redrives is gone once its lock is free, and with died_at only that very death counts.
-- Kinds with a hook that the caller does not know stay. Answers what a hook needs; workers wake at the commit.
WITH input AS MATERIALIZED (
    SELECT j.id, j.kind, j.queue, j.priority, j.partition_key, j.event_id, u.died_at
    FROM unnest(%(job_ids)s::bigint[], %(died_ats)s::timestamptz[]) AS u(job_id, died_at)
    JOIN tandem.job AS j ON j.id = u.job_id LEFT JOIN tandem.kind AS k ON k.name = j.kind
    WHERE k.hooked IS NOT TRUE OR j.kind = ANY (%(hooked_kinds)s::text[])
    ORDER BY j.id
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
    DELETE FROM tandem.done AS d USING input AS i
    WHERE d.job_id = i.id AND d.outcome = 'DEAD' AND coalesce(d.finished_at = i.died_at, true)
    RETURNING i.id, i.kind, i.queue, i.priority, i.partition_key, i.event_id
), unasked AS (
    DELETE FROM tandem.cancel_intent AS c USING gone AS g WHERE c.job_id = g.id
), resumed AS (  -- a key that stopped behind it goes on with it
    DELETE FROM tandem.halted AS h USING gone AS g WHERE h.queue = g.queue AND h.partition_key = g.partition_key AND h.job_id = g.id
), managed AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS queues
), back AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), g.id, c.at, g.priority, 0, 0, false, g.queue, g.partition_key
    FROM gone AS g CROSS JOIN clock AS c WHERE g.queue <> ALL ((SELECT m.queues FROM managed AS m)::text[])
), waits AS MATERIALIZED (
    SELECT tandem.block_jobs(array_agg(g.id), array_agg(queue), array_agg(partition_key), array_agg(priority),
               array_agg(0::smallint), array_agg(0::smallint), array_agg(false), array_agg(c.at), array_agg(NULL::timestamptz), true)
    FROM gone AS g CROSS JOIN clock AS c WHERE g.queue = ANY ((SELECT m.queues FROM managed AS m)::text[])
)
SELECT g.id AS job_id, g.kind, g.queue, g.event_id, 0::smallint AS attempt, c.at AS next_attempt_at, NULL::text AS reason,
       tandem.wake_at_commit(tandem.wake_lane(g.queue)) AS woken
FROM gone AS g CROSS JOIN clock AS c CROSS JOIN waits
