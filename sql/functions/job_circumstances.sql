-- tandem.job_circumstances(job): one row with all that tandem.explain decides on, whatever the id. Internal.
-- `place` is where the job stands (NULL: nowhere); `slots` are those of workers seen within a minute on its queue;
-- `held` the leases of its queue; `ahead` the ready jobs before it, from the safe floors, counted to 1,000.
CREATE OR REPLACE FUNCTION tandem.job_circumstances(job bigint) RETURNS TABLE (
    at timestamptz, place text, queue text, priority smallint, attempt smallint, suspect boolean, alone boolean,
    since timestamptz, until timestamptz, worker text, detail text, created_at timestamptz, kind text, declared boolean,
    hooked boolean, partition_key text, paused_at timestamptz, paused_by text, cancel_at timestamptz, cancel_by text,
    cancel_why text, slots bigint, seen_at timestamptz, held bigint, ahead bigint, failed_at timestamptz, failure text,
    swept boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), place AS MATERIALIZED (
    SELECT 'ready' AS place, queue, priority, pos, attempt, suspect, false AS alone, ready_at AS since,
           NULL::timestamptz AS until, partition_key, NULL::uuid AS worker, NULL AS detail FROM tandem.ready WHERE job_id = $1
    UNION ALL SELECT 'scheduled', queue, priority, NULL, attempt, suspect, false, NULL, next_attempt_at, partition_key,
           NULL, NULL FROM tandem.scheduled WHERE job_id = $1
    UNION ALL SELECT 'blocked', queue, priority, NULL, attempt, suspect, false, blocked_at, NULL, partition_key, NULL,
           waiting_for FROM tandem.blocked WHERE job_id = $1
    UNION ALL SELECT 'dependent', queue, priority, NULL, 0, false, false, held_at, NULL, partition_key, NULL,
           tandem.awaited_jobs(job_id) FROM tandem.dependent WHERE job_id = $1
    UNION ALL SELECT 'lease', queue, priority, NULL, attempt, suspect, alone, claimed_at, expires_at, partition_key,
           worker, NULL FROM tandem.lease WHERE job_id = $1
    UNION ALL SELECT lower(outcome), NULL, NULL, NULL, attempt, NULL, NULL, finished_at, NULL, NULL, worker,
           nullif(concat_ws(': ', error_class, reason), '') FROM tandem.done WHERE job_id = $1
)
SELECT c.at, p.place, coalesce(p.queue, j.queue), coalesce(p.priority, j.priority), p.attempt, p.suspect, p.alone, p.since,
       p.until, coalesce(w.name, p.worker::text), p.detail, j.created_at, j.kind, k.name IS NOT NULL, k.hooked IS TRUE,
       coalesce(p.partition_key, j.partition_key), q.paused_at, q.paused_by, i.requested_at, i.requested_by, i.reason,
       s.slots, s.seen_at, (SELECT count(*) FROM tandem.lease AS l WHERE l.queue = p.queue),
       (SELECT count(*) FROM (
            SELECT FROM generate_series(p.priority, 9) AS g(priority) CROSS JOIN LATERAL (
                SELECT FROM tandem.ready AS r WHERE r.queue = p.queue AND r.priority = g.priority
                AND r.pos >= (SELECT coalesce(max(f.floor), 0) FROM tandem.lane_floor AS f
                              WHERE f.queue = p.queue AND f.priority = g.priority)
                AND r.pos < CASE WHEN g.priority > p.priority THEN 9223372036854775807 ELSE p.pos END LIMIT 1000) AS r
            LIMIT 1000) AS a),
       t.finished_at, concat_ws(': ', t.error_class, left(t.message, 200)),
       EXISTS (SELECT FROM tandem.leader AS d WHERE d.name = 'sweeper' AND d.expires_at > c.at)
FROM clock AS c LEFT JOIN place AS p ON true
LEFT JOIN tandem.job AS j ON j.id = $1
LEFT JOIN tandem.kind AS k ON k.name = j.kind
LEFT JOIN tandem.queue AS q ON q.name = p.queue
LEFT JOIN tandem.worker AS w ON w.id = p.worker
LEFT JOIN tandem.cancel_intent AS i ON i.job_id = $1
LEFT JOIN LATERAL (
    SELECT sum(n.concurrency) FILTER (WHERE n.stopped_at IS NULL AND n.seen_at > c.at - interval '1 minute') AS slots,
           max(n.seen_at) AS seen_at FROM tandem.worker AS n WHERE p.queue = ANY (n.queues)) AS s ON true
LEFT JOIN LATERAL (SELECT a.finished_at, a.error_class, a.message FROM tandem.attempt AS a WHERE a.job_id = $1
                   ORDER BY a.finished_at DESC LIMIT 1) AS t ON true
$$;
