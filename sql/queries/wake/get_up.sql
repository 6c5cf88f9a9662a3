-- A sleeper takes its announcements back, in this order, and then wakes two others on each of the queues.
SELECT u.places, tandem.wake_queues(%(tell)s::text[]) AS told FROM (
    SELECT count(CASE WHEN u.seat IS NULL THEN pg_advisory_unlock_shared(1413565006, u.key)
                      ELSE pg_advisory_unlock(u.key, 1413565200 + u.seat) END) AS places
    FROM unnest(%(keys)s::integer[], %(seats)s::integer[]) AS u(key, seat) OFFSET 0
) AS u
