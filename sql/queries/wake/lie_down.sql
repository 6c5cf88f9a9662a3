-- A sleeper announces itself, on seats and lanes (no seat) in this order; false where a producer holds the lock this instant.
SELECT CASE WHEN u.seat IS NULL THEN pg_try_advisory_lock_shared(1413565006, u.key)
            ELSE pg_try_advisory_lock(u.key, 1413565200 + u.seat) END AS asleep
FROM unnest(%(keys)s::integer[], %(seats)s::integer[]) AS u(key, seat)
