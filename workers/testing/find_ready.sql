-- The lanes that have ready jobs, of some queues (all, if NULL).
SELECT r.queue, r.priority, min(r.pos) AS first FROM tandem.ready AS r
WHERE %(queues)s::text[] IS NULL OR r.queue = ANY (%(queues)s::text[])
GROUP BY r.queue, r.priority ORDER BY r.priority DESC, first
