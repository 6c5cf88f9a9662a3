-- What keeps vacuum from removing dead rows, and how many dead rows lie in the tables that every job passes through?
-- First answer: who holds the snapshot horizon back; xids: how many transactions it lags behind; since: its start.
-- Second answer: live and dead rows by the statistics, and the last vacuum of either kind.
-- What to do: a session idle in transaction or a forgotten query: end it (SELECT pg_terminate_backend(id::integer)).
-- A replication slot nobody reads: drop it. A prepared transaction: COMMIT PREPARED or ROLLBACK PREPARED. The queue stays
-- fast under an old horizon, but its tables grow; dead rows that stay with no holder: autovacuum does not keep up.
SELECT h.holder, h.id, h.xids, date_trunc('second', clock_timestamp() - h.started) AS since, h.detail
FROM (
    SELECT 'session' AS holder, pid::text AS id, age(backend_xmin) AS xids, xact_start AS started,
           concat_ws(': ', application_name, state, left(query, 60)) AS detail
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT 'replication slot', slot_name::text, age(coalesce(xmin, catalog_xmin)), NULL,
           CASE WHEN active THEN 'active' ELSE 'not read by anybody' END
    FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
    UNION ALL
    SELECT 'standby', pid::text, age(backend_xmin), NULL, application_name
    FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
    UNION ALL
    SELECT 'prepared transaction', gid, age(transaction), prepared, owner::text FROM pg_prepared_xacts
) AS h
ORDER BY h.xids DESC, h.id LIMIT 20;

SELECT relname AS hot_table, n_live_tup AS live, n_dead_tup AS dead, pg_size_pretty(pg_total_relation_size(relid)) AS size,
       date_trunc('second', clock_timestamp() - greatest(last_vacuum, last_autovacuum)) AS vacuumed
FROM pg_stat_user_tables
WHERE schemaname = 'tandem'
  AND relname IN ('ready', 'lease', 'scheduled', 'blocked', 'wake_request', 'lane_floor', 'worker', 'leader')
ORDER BY n_dead_tup DESC, relname;
