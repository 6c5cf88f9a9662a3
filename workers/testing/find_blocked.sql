-- The managed queues in which jobs wait for admission, of some queues (all, if NULL).
SELECT DISTINCT b.queue FROM tandem.blocked AS b
WHERE %(queues)s::text[] IS NULL OR b.queue = ANY (%(queues)s::text[]) ORDER BY b.queue
