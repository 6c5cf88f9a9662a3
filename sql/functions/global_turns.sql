-- tandem.global_turns(queue, exempt, servers): how many jobs of a queue can run at once under the global limit, and seconds of work of
-- other queues that come first. A slot that ends is refilled by the queue that held it, in the same transaction; so a queue either
-- keeps to the slots it holds, or waits until the others have nothing left: what is sooner counts, so both are a row where others
-- wait. Without a global limit, or where it does not count: `servers`, and nothing first. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.global_turns(queue text, exempt boolean, servers float8)
RETURNS TABLE (servers float8, others float8)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH whole AS MATERIALIZED (
    SELECT g.max_running::float8 AS most, coalesce((
        SELECT sum(w.jobs * s.mean) FROM tandem.queue AS o
        CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (SELECT FROM tandem.blocked AS b WHERE b.queue = o.name LIMIT 10000) AS b) AS w
        CROSS JOIN LATERAL (SELECT s.mean FROM tandem.service_stats(o.name) AS s WHERE s.kind IS NULL AND w.jobs > 0) AS s
        WHERE o.managed AND o.name <> $1 AND o.paused_at IS NULL), 0) AS others
    FROM tandem.concurrency_limit AS g JOIN tandem.queue AS q ON q.name = $1 AND q.managed
    WHERE g.name = 'global' AND NOT $2
)
SELECT least($3, w.most), coalesce(w.others, 0) FROM (SELECT 1) AS one LEFT JOIN whole AS w ON true
UNION ALL
SELECT least($3, w.most, h.held), 0 FROM whole AS w CROSS JOIN LATERAL (
    SELECT count(*) AS held FROM tandem.lease AS l WHERE l.queue = $1 AND l.exempt IS NOT NULL AND NOT l.exempt) AS h
WHERE w.others > 0 AND h.held > 0
$$;
