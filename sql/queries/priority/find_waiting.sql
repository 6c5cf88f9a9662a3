-- Of the next `most` waiting jobs behind the id `after`, in any queue: how many were looked at, the last one, and those of
-- `queues` whose place their priority decides. Jobs of ordered queues keep their place, so they are left out.
WITH looked AS MATERIALIZED (
    SELECT w.job_id, w.queue, w.priority, w.attempt, w.since FROM (
        (SELECT r.job_id, r.queue, r.priority, r.attempt, r.ready_at AS since FROM tandem.ready AS r
         WHERE r.job_id > %(after)s::bigint ORDER BY r.job_id LIMIT %(most)s)
        UNION ALL
        (SELECT b.job_id, CASE WHEN b.waiting_for = 'limit' THEN b.queue END, b.priority, b.attempt, b.blocked_at FROM tandem.blocked AS b
         WHERE b.job_id > %(after)s::bigint ORDER BY b.job_id LIMIT %(most)s)
        UNION ALL
        (SELECT s.job_id, s.queue, s.priority, s.attempt, s.next_attempt_at FROM tandem.scheduled AS s
         WHERE s.job_id > %(after)s::bigint ORDER BY s.job_id LIMIT %(most)s)) AS w
    ORDER BY w.job_id LIMIT %(most)s
), clock AS MATERIALIZED (SELECT tandem.clock() AS at)
SELECT t.looked, t.last, l.job_id, l.queue, j.kind, j.partition_key, l.priority, j.priority AS base, l.attempt,
       greatest(0, extract(epoch FROM c.at - l.since))::float8 AS waited, j.created_at, j.event_id
FROM (SELECT count(*) AS looked, max(a.job_id) AS last FROM looked AS a) AS t CROSS JOIN clock AS c
LEFT JOIN (looked AS l JOIN tandem.job AS j ON j.id = l.job_id) ON l.queue = ANY (%(queues)s::text[])
ORDER BY l.job_id
