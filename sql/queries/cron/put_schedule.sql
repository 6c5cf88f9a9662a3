-- Writes a schedule; the next tick of one that was there changes only with its times. No row: an operator's may not replace
-- one that is declared in code, or nothing would change.
INSERT INTO tandem.schedule AS s
    (name, cron, timezone, kind, queue, payload, priority, partition_key, missed, overlap, source, next_tick_at, created_at)
VALUES (%(name)s, %(cron)s, %(timezone)s, %(kind)s, %(queue)s, %(payload)s::text::jsonb, %(priority)s, %(partition_key)s,
        %(missed)s, %(overlap)s, %(source)s, %(next_tick_at)s, tandem.clock())
ON CONFLICT (name) DO UPDATE
SET cron = excluded.cron, timezone = excluded.timezone, kind = excluded.kind, queue = excluded.queue,
    payload = excluded.payload, priority = excluded.priority, partition_key = excluded.partition_key,
    missed = excluded.missed, overlap = excluded.overlap, source = excluded.source,
    next_tick_at = CASE WHEN (s.cron, s.timezone) = (excluded.cron, excluded.timezone) THEN s.next_tick_at
                        ELSE excluded.next_tick_at END
WHERE (excluded.source = 'code' OR s.source = 'operator')
  AND (s.cron, s.timezone, s.kind, s.queue, s.payload, s.priority, s.partition_key, s.missed, s.overlap, s.source)
      IS DISTINCT FROM (excluded.cron, excluded.timezone, excluded.kind, excluded.queue, excluded.payload, excluded.priority,
                        excluded.partition_key, excluded.missed, excluded.overlap, excluded.source)
RETURNING s.name
