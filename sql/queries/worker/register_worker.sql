-- Writes this process start's own row.
INSERT INTO tandem.worker (id, name, mode, queues, concurrency, version, started_at, seen_at)
VALUES (%(id)s, %(name)s, %(mode)s, %(queues)s, %(concurrency)s, %(version)s, tandem.clock(), tandem.clock())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
