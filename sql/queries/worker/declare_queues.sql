-- Makes sure that the queues a worker serves have their rows: floors are kept for declared queues only.
INSERT INTO tandem.queue (name) SELECT u.name FROM unnest(%(queues)s::text[]) AS u(name) ORDER BY u.name ON CONFLICT DO NOTHING
