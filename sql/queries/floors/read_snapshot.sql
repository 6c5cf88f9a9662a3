-- Transactions below xmin have ended; all that had begun to write before this statement are below `boundary`.
-- The boundary is an id of our own: a snapshot's xmax is only one past the highest transaction that has ended, and
-- running ones may lie above it.
SELECT pg_snapshot_xmin(s.snapshot)::text::bigint AS xmin, pg_current_xact_id()::text::bigint AS boundary
FROM (SELECT pg_current_snapshot() AS snapshot) AS s
