-- tandem.eta_servers(queue, key, kind, servers): how many jobs can run at once before a job of this key: of so many, in a managed
-- queue its key's share among the keys that wait (counted to 100; exempt keys go before the others), at most the key's limit.
-- In an ordered queue the kind's limit counts too; elsewhere see tandem.eta_terms. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.eta_servers(queue text, partition_key text, kind text, servers float8) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE waiting AS (
    (SELECT b.partition_key, 1 AS number FROM tandem.blocked AS b WHERE b.queue = $1 ORDER BY b.partition_key LIMIT 1)
    UNION ALL
    SELECT (SELECT b.partition_key FROM tandem.blocked AS b WHERE b.queue = $1 AND b.partition_key > w.partition_key
            ORDER BY b.partition_key LIMIT 1), w.number + 1
    FROM waiting AS w WHERE w.partition_key IS NOT NULL AND w.number <= 100
)
SELECT CASE WHEN q.managed THEN least($4 / greatest(1, r.keys), CASE WHEN q.ordered THEN 1 END,
                                      CASE WHEN $2 <> '' THEN coalesce(k.max_running, q.key_max_running) END,
                                      CASE WHEN q.ordered THEN tandem.kind_servers($3) END)
            ELSE $4 END
FROM (SELECT 1) AS one
LEFT JOIN tandem.queue AS q ON q.name = $1
LEFT JOIN tandem.key AS k ON k.queue = $1 AND k.partition_key = $2
LEFT JOIN LATERAL (
    SELECT count(*) AS keys FROM waiting AS w LEFT JOIN tandem.key AS o ON o.queue = $1 AND o.partition_key = w.partition_key
    WHERE w.partition_key IS NOT NULL AND (o.exempt IS TRUE) = (k.exempt IS TRUE)) AS r ON q.managed
$$;
