-- claim_jobs for when it met a job that is ready and leased at once, which is a fault that check_membership names: takes
-- such a job out of `ready` and leaves it to the lease that it has, so that it holds up nobody.
WITH lane AS MATERIALIZED (
    SELECT u.queue, u.priority, u.floor, u.ceiling
    FROM unnest(%(queues)s::text[], %(priorities)s::smallint[], %(floors)s::bigint[], %(ceilings)s::bigint[])
        AS u(queue, priority, floor, ceiling)
    WHERE u.queue <> ALL (ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.paused_at IS NOT NULL))
), picked AS MATERIALIZED (
    SELECT r.tid
    FROM lane AS l CROSS JOIN LATERAL (
        SELECT ctid AS tid FROM tandem.ready
        WHERE queue = l.queue AND priority = l.priority AND pos >= l.floor AND pos < l.ceiling
        ORDER BY pos LIMIT %(want)s FOR UPDATE SKIP LOCKED) AS r
    LIMIT %(want)s
), taken AS (  -- the rows are locked, so their ctid holds still
    DELETE FROM tandem.ready AS r USING picked AS p WHERE r.ctid = p.tid
    RETURNING r.job_id, r.pos, r.priority, r.attempt, r.crashes, r.suspect, r.queue, r.partition_key, r.ready_at
), clock AS MATERIALIZED (SELECT tandem.clock() AS at), leased AS (
    INSERT INTO tandem.lease
        (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT t.job_id, %(token)s, %(worker)s, c.at, c.at + %(lease)s::interval, t.priority, t.attempt + 1, t.crashes,
           t.suspect, t.queue, t.partition_key
    FROM taken AS t CROSS JOIN clock AS c
    ON CONFLICT (job_id) DO NOTHING
    RETURNING job_id
)
SELECT t.job_id, t.pos, t.queue, t.priority, (t.attempt + 1)::smallint AS attempt, t.crashes, t.suspect,
       t.partition_key, t.ready_at, c.at AS claimed_at, j.kind, j.payload::text AS payload, j.event_id,
       j.policy::text AS policy, j.context::text AS context, j.created_at,
       EXISTS (SELECT FROM tandem.cancel_intent AS i WHERE i.job_id = t.job_id) AS cancelled
FROM taken AS t CROSS JOIN clock AS c JOIN tandem.job AS j ON j.id = t.job_id
-- A job that already had a lease (membership says so) is not ours; the list is looked into only if there is one.
WHERE (SELECT count(*) FROM leased) = (SELECT count(*) FROM taken) OR t.job_id IN (SELECT l.job_id FROM leased AS l)
