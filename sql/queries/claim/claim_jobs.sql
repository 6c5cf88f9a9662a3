-- Claims up to `want` ready jobs: highest priority first, then by position, skipping what others have locked.
-- One element of queues/priorities/floors/ceilings per lane; a lane is read in [floor, ceiling). Paused and managed queues
-- are left out (admit_jobs claims from the latter); lanes without rows cost one index probe each.
-- MATERIALIZED keeps the planner from re-running the LIMIT: in a nested loop it would claim more than asked.
-- The rows come in the order in which they lie in the table. A job that has a lease already raises unique_violation: see
-- claim_jobs_around. ON CONFLICT here would cost a second look into the index and 48 bytes of WAL for every job.
-- The jobs themselves are read in one pass over their index, and FULL makes that a hash join, which worker sessions use only
-- where nothing else is possible: a look-up for each row would choose its partition anew each time, a tenth of the claim.
-- The range of ids leaves partitions out, which a list of ids does not.
WITH lane AS MATERIALIZED (
    SELECT u.queue, u.priority, u.floor, u.ceiling
    FROM unnest(%(queues)s::text[], %(priorities)s::smallint[], %(floors)s::bigint[], %(ceilings)s::bigint[])
        AS u(queue, priority, floor, ceiling)
    WHERE u.queue <> ALL (ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.paused_at IS NOT NULL OR q.managed))
), picked AS MATERIALIZED (
    SELECT r.tid
    FROM lane AS l CROSS JOIN LATERAL (
        SELECT ctid AS tid FROM tandem.ready
        WHERE queue = l.queue AND priority = l.priority AND pos >= l.floor AND pos < l.ceiling
        ORDER BY pos LIMIT %(want)s FOR UPDATE SKIP LOCKED) AS r
    LIMIT %(want)s
), taken AS (  -- the rows are locked, so their ctid holds still
    DELETE FROM tandem.ready AS r WHERE r.ctid = ANY (ARRAY(SELECT p.tid FROM picked AS p))
    RETURNING r.job_id, r.pos, r.priority, r.attempt, r.crashes, r.suspect, r.queue, r.partition_key, r.ready_at
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), leased AS (
    INSERT INTO tandem.lease
        (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT t.job_id, %(token)s::bigint, %(worker)s::uuid, c.at, c.at + %(lease)s::interval, t.priority, t.attempt + 1, t.crashes,
           t.suspect, t.queue, t.partition_key
    FROM taken AS t CROSS JOIN clock AS c
)
SELECT t.job_id, t.pos, t.queue, t.priority, (t.attempt + 1)::smallint AS attempt, t.crashes, t.suspect,
       t.partition_key, t.ready_at, c.at AS claimed_at, j.kind, j.payload::text AS payload, j.event_id,
       j.policy::text AS policy, j.context::text AS context, j.created_at,
       t.job_id = ANY (ARRAY(SELECT i.job_id FROM tandem.cancel_intent AS i
                             WHERE i.job_id = ANY (ARRAY(SELECT x.job_id FROM taken AS x)))) AS cancelled
FROM taken AS t CROSS JOIN clock AS c FULL JOIN (
    SELECT f.id, f.kind, f.payload, f.event_id, f.policy, f.context, f.created_at FROM tandem.job AS f
    WHERE f.id = ANY (ARRAY(SELECT x.job_id FROM taken AS x))
      AND f.id BETWEEN (SELECT min(x.job_id) FROM taken AS x) AND (SELECT max(x.job_id) FROM taken AS x)
    OFFSET 0
) AS j ON j.id = t.job_id
