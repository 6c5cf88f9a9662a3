-- What queues ask of workers: how many jobs wait that could run (counting ends at `most`), how many run, seconds of a mean try
-- (NULL: none known), and how many may run at once at the most (NULL: any number). Paused queues ask for nothing more.
SELECT u.queue, CASE WHEN q.paused_at IS NULL THEN w.jobs ELSE 0 END AS waiting, r.jobs AS running, t.mean, q.max_running
FROM unnest(%(queues)s::text[]) AS u(queue) LEFT JOIN tandem.queue AS q ON q.name = u.queue
LEFT JOIN LATERAL (SELECT s.mean FROM tandem.service_stats(u.queue) AS s WHERE s.kind IS NULL) AS t ON true
CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
    (SELECT FROM tandem.ready AS r CROSS JOIN generate_series(0, 9) AS g(priority)
     WHERE r.queue = u.queue AND r.priority = g.priority
       AND r.pos >= (SELECT coalesce(max(f.floor), 0) FROM tandem.lane_floor AS f WHERE f.queue = u.queue AND f.priority = g.priority)
     LIMIT %(most)s)
    UNION ALL (SELECT FROM tandem.blocked AS b WHERE b.queue = u.queue LIMIT %(most)s) LIMIT %(most)s) AS c) AS w
CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
    SELECT FROM tandem.lease AS l WHERE l.queue = u.queue LIMIT %(most)s) AS c) AS r
