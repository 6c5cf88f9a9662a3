-- Makes a queue a plain one again; its waiting jobs follow with move_waiting. No row: it was not managed.
UPDATE tandem.queue AS q SET managed = false WHERE q.name = %(queue)s::text AND q.managed
RETURNING q.name, tandem.wake_at_commit(tandem.wake_lane(q.name))
