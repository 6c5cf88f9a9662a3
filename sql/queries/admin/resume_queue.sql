-- Lets a queue be claimed from again; workers that sleep are woken at the commit. No row: nobody declared the queue.
UPDATE tandem.queue AS q SET paused_at = NULL, paused_by = NULL WHERE q.name = %(queue)s
RETURNING q.name AS queue, q.paused_at, q.paused_by, tandem.wake_at_commit(tandem.wake_lane(q.name)) AS woken
