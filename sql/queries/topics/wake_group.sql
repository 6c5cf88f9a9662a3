-- A key or a limit has room: wakes whoever sleeps on this queue, at the commit.
SELECT tandem.wake_at_commit(tandem.wake_lane(%(queue)s::text))
