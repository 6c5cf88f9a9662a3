-- The settings of the server that decide what a commit means, and what is cleaned up.
SELECT s.name, s.setting FROM pg_settings AS s
WHERE s.name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'synchronous_standby_names', 'autovacuum',
                 'track_counts', 'max_connections', 'data_checksums', 'idle_session_timeout')
ORDER BY s.name
