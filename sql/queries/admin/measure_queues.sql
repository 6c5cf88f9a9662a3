-- The gauges of each declared queue. Counts end at `most`, and lanes are read from their safe floors on, so that a
-- scrape stays cheap whatever has piled up and whoever holds an old snapshot.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), lane AS MATERIALIZED (
    SELECT q.name AS queue, p.priority::smallint AS priority,
           coalesce((SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = q.name AND f.priority = p.priority), 0) AS floor
    FROM tandem.queue AS q CROSS JOIN generate_series(0, 9) AS p(priority)
), waiting AS (
    SELECT l.queue, sum(c.jobs) AS jobs, min(o.ready_at) AS oldest
    FROM lane AS l
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM tandem.ready AS r
            WHERE r.queue = l.queue AND r.priority = l.priority AND r.pos >= l.floor LIMIT %(most)s) AS upto) AS c
    LEFT JOIN LATERAL (
        SELECT r.ready_at FROM tandem.ready AS r
        WHERE r.queue = l.queue AND r.priority = l.priority AND r.pos >= l.floor ORDER BY r.pos LIMIT 1) AS o ON true
    GROUP BY l.queue
), later AS (
    SELECT s.queue, count(*) AS jobs FROM (
        SELECT queue FROM tandem.scheduled ORDER BY next_attempt_at LIMIT %(most)s) AS s GROUP BY s.queue
), held AS (
    SELECT q.name AS queue, c.jobs, c.oldest FROM tandem.queue AS q CROSS JOIN LATERAL (
        SELECT count(*) AS jobs, min(upto.since) AS oldest FROM (
            SELECT greatest(b.blocked_at, b.not_before) AS since FROM tandem.blocked AS b
            WHERE b.queue = q.name LIMIT %(most)s) AS upto) AS c
    WHERE q.managed
), running AS (
    SELECT l.queue, count(*) AS jobs FROM (SELECT queue FROM tandem.lease LIMIT %(most)s) AS l GROUP BY l.queue
)
SELECT q.name AS queue, coalesce(w.jobs, 0)::bigint AS ready, coalesce(s.jobs, 0) AS scheduled, coalesce(b.jobs, 0) AS blocked,
       coalesce(r.jobs, 0) AS running,
       coalesce(extract(epoch FROM c.at - w.oldest), 0)::float8 AS oldest_seconds,
       coalesce(greatest(0, extract(epoch FROM c.at - b.oldest)), 0)::float8 AS oldest_blocked_seconds, q.paused_at IS NOT NULL AS paused
FROM tandem.queue AS q CROSS JOIN clock AS c
LEFT JOIN waiting AS w ON w.queue = q.name LEFT JOIN held AS b ON b.queue = q.name
LEFT JOIN later AS s ON s.queue = q.name LEFT JOIN running AS r ON r.queue = q.name
ORDER BY q.name
