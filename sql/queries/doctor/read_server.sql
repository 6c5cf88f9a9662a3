-- Which server and role answer, whether it takes writes, and whether the role sees other sessions' snapshots.
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS number,
       current_user::text AS role, current_database()::text AS database, pg_is_in_recovery() AS standby,
       current_setting('default_transaction_read_only')::boolean AS read_only,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all, pg_backend_pid() AS pid
