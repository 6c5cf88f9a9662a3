-- Every group with what waits for it: deliveries that are not done, since when the oldest ready one waits, dead letters,
-- consumers seen lately (workers that serve its queue, programs that consume over HTTP), and open fills.
-- Ready deliveries are counted up to `most` for each priority.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), g AS MATERIALIZED (
    SELECT g.id, t.name AS topic, g.name AS group_name, g.queue, g.ordered, g.max_attempts, g.retry_delay_ms, g.backoff, g.created_at
    FROM tandem.topic_group AS g JOIN tandem.topic AS t ON t.id = g.topic_id
    WHERE (%(topic)s::text IS NULL OR t.name = %(topic)s) AND (%(group)s::text IS NULL OR g.name = %(group)s)
), later AS (
    SELECT s.queue, count(*) AS jobs FROM tandem.scheduled AS s WHERE s.queue IN (SELECT queue FROM g) GROUP BY s.queue
), running AS (
    SELECT l.queue, count(*) AS jobs FROM tandem.lease AS l WHERE l.queue IN (SELECT queue FROM g) GROUP BY l.queue
), blocked AS (
    SELECT b.queue, count(*) AS jobs, min(b.blocked_at) AS oldest FROM tandem.blocked AS b WHERE b.queue IN (SELECT queue FROM g) GROUP BY b.queue
), dead AS (
    SELECT j.queue, count(*) AS jobs FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
    WHERE d.outcome = 'DEAD' AND j.queue IN (SELECT queue FROM g) GROUP BY j.queue
)
SELECT g.topic, g.group_name, g.queue, g.ordered, CASE WHEN g.ordered THEN q.dead_head END AS dead_head,
       (SELECT count(*) FROM tandem.halted AS h WHERE h.queue = g.queue) AS halted, g.max_attempts, g.retry_delay_ms, g.backoff, g.created_at, q.paused_at,
       coalesce(w.jobs, 0) AS ready, coalesce(s.jobs, 0) AS scheduled, coalesce(r.jobs, 0) AS running, coalesce(b.jobs, 0) AS blocked,
       coalesce(w.jobs, 0) + coalesce(s.jobs, 0) + coalesce(r.jobs, 0) + coalesce(b.jobs, 0) AS lag,
       coalesce(extract(epoch FROM c.at - least(w.oldest, b.oldest)), 0)::float8 AS lag_seconds, coalesce(d.jobs, 0) AS dead,
       (SELECT count(*) FROM tandem.topic_fill AS f WHERE f.group_id = g.id AND f.finished_at IS NULL) AS fills,
       (SELECT count(*) FROM tandem.worker AS k WHERE g.queue = ANY (k.queues) AND k.stopped_at IS NULL AND k.seen_at > c.at - interval '1 minute')
       + (SELECT count(*) FROM tandem.topic_consumer AS k WHERE k.group_id = g.id AND k.seen_at > c.at - interval '1 minute') AS consumers
FROM g CROSS JOIN clock AS c LEFT JOIN tandem.queue AS q ON q.name = g.queue
CROSS JOIN LATERAL (
    SELECT sum(l.jobs)::bigint AS jobs, min(l.oldest) AS oldest FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, min(u.ready_at) AS oldest FROM (
            SELECT r.ready_at FROM tandem.ready AS r
            WHERE r.queue = g.queue AND r.priority = p.priority::smallint AND r.pos >= coalesce(
                (SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = g.queue AND f.priority = p.priority), 0)
            ORDER BY r.pos LIMIT %(most)s) AS u) AS l) AS w
LEFT JOIN later AS s ON s.queue = g.queue LEFT JOIN running AS r ON r.queue = g.queue
LEFT JOIN blocked AS b ON b.queue = g.queue LEFT JOIN dead AS d ON d.queue = g.queue
ORDER BY g.topic, g.group_name
