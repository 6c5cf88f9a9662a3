-- A sleeper announces itself on its lanes; false where a producer holds the lock this instant.
SELECT u.lane, pg_try_advisory_lock_shared(1413565006, u.lane) AS asleep FROM unnest(%(lanes)s::integer[]) AS u(lane) ORDER BY u.lane
