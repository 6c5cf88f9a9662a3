-- Takes or renews a leadership: its row is free, expired, or ours. No row answered: somebody else leads.
INSERT INTO tandem.leader AS l (name, holder, token, acquired_at, expires_at)
VALUES (%(name)s, %(holder)s, %(token)s, tandem.clock(), tandem.clock() + %(lease)s::interval)
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, token = excluded.token, expires_at = excluded.expires_at,
    acquired_at = CASE WHEN l.holder = excluded.holder THEN l.acquired_at ELSE excluded.acquired_at END
WHERE l.holder = excluded.holder OR l.expires_at <= (SELECT tandem.clock())
RETURNING l.holder, l.acquired_at
