-- Transactions below xmin have ended; none at or above xmax had started.
SELECT pg_snapshot_xmin(s.snapshot)::text::bigint AS xmin, pg_snapshot_xmax(s.snapshot)::text::bigint AS xmax
FROM (SELECT pg_current_snapshot() AS snapshot) AS s
