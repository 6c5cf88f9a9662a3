-- tandem.eta_servers(queue, key, busy): how many jobs can run at once before a job of this key: queue_servers, in a managed
-- queue its key's share among the keys that wait (counted to 100), at most the key's limit. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.eta_servers(queue text, partition_key text, busy float8) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE waiting AS (
    (SELECT b.partition_key, 1 AS number FROM tandem.blocked AS b WHERE b.queue = $1 ORDER BY b.partition_key LIMIT 1)
    UNION ALL
    SELECT (SELECT b.partition_key FROM tandem.blocked AS b WHERE b.queue = $1 AND b.partition_key > w.partition_key
            ORDER BY b.partition_key LIMIT 1), w.number + 1
    FROM waiting AS w WHERE w.partition_key IS NOT NULL AND w.number <= 100
)
SELECT CASE WHEN q.managed THEN least(s.servers / greatest(1, (SELECT count(w.partition_key) FROM waiting AS w)),
                                      CASE WHEN q.ordered THEN 1 END, coalesce(k.max_running, q.key_max_running))
            ELSE s.servers END
FROM (SELECT tandem.queue_servers($1, $3) AS servers) AS s
LEFT JOIN tandem.queue AS q ON q.name = $1
LEFT JOIN tandem.key AS k ON k.queue = $1 AND k.partition_key = $2
$$;
