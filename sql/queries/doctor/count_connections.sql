-- How many of the connections that clients may have are taken, how many of them are ours, and how many idle inside a
-- transaction for more than a minute.
SELECT count(*) FILTER (WHERE coalesce(a.backend_type, 'client backend') = 'client backend') AS used,
       count(*) FILTER (WHERE a.application_name LIKE 'tandem %%') AS ours,
       count(*) FILTER (WHERE a.state LIKE 'idle in transaction%%'
                        AND a.state_change < clock_timestamp() - interval '1 minute') AS idling,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
       - coalesce(current_setting('reserved_connections', true), '0')::integer AS most
FROM pg_stat_activity AS a WHERE a.usesysid IS NOT NULL
