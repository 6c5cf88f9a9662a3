-- tandem.kind_servers(kind): how many jobs of a kind one key can run at once by the kind's own limit: its equal part among the keys
-- that wait with jobs of it (counted to 100 a queue). NULL where the kind has no limit. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.kind_servers(kind text) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT c.max_running::float8 / greatest(1, (
    SELECT sum(n.turns) FROM tandem.queue AS q CROSS JOIN LATERAL (
        SELECT count(*) AS turns FROM (SELECT FROM tandem.turn AS t WHERE t.queue = q.name AND t.shelf = $1 AND t.eligible
                                       LIMIT 100) AS t) AS n
    WHERE q.managed))
FROM tandem.concurrency_limit AS c WHERE c.name = 'kind:' || $1
$$;
