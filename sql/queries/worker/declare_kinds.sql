-- Publishes the kinds this process knows; writes only what changed.
INSERT INTO tandem.kind AS k (name, max_attempts, crash_limit, hooked)
SELECT u.name, u.max_attempts, u.crash_limit, u.hooked
FROM unnest(%(names)s::text[], %(max_attempts)s::smallint[], %(crash_limits)s::smallint[], %(hooked)s::boolean[])
    AS u(name, max_attempts, crash_limit, hooked)
ORDER BY u.name
ON CONFLICT (name) DO UPDATE
SET max_attempts = excluded.max_attempts, crash_limit = excluded.crash_limit, hooked = excluded.hooked, declared_at = clock_timestamp()
WHERE (k.max_attempts, k.crash_limit, k.hooked) IS DISTINCT FROM (excluded.max_attempts, excluded.crash_limit, excluded.hooked)
