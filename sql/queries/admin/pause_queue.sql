-- Stops claims from a queue that is declared or has ready jobs; jobs that run go on. No row: nobody knows the queue.
INSERT INTO tandem.queue AS q (name, paused_at, paused_by)
SELECT %(queue)s, tandem.clock(), %(paused_by)s
WHERE EXISTS (SELECT FROM tandem.queue AS k WHERE k.name = %(queue)s)
   OR EXISTS (SELECT FROM tandem.ready AS r WHERE r.queue = %(queue)s)
ON CONFLICT (name) DO UPDATE
SET paused_by = CASE WHEN q.paused_at IS NULL THEN excluded.paused_by ELSE q.paused_by END,
    paused_at = coalesce(q.paused_at, excluded.paused_at)
RETURNING q.name AS queue, q.paused_at, q.paused_by
