-- tandem.jobs_ahead(job): how many jobs come before one that is ready or blocked: exact up to 10,000, then estimated from how
-- densely positions are taken. In a managed queue those of its own key. NULL when it waits for something else. Internal.
CREATE OR REPLACE FUNCTION tandem.jobs_ahead(job bigint) RETURNS TABLE (ahead bigint, exact boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT sum(CASE WHEN n.jobs < 10000 OR n.last = n.first THEN n.jobs
                ELSE greatest(n.jobs, (n.jobs::float8 * (n.until - n.first) / (n.last - n.first))::bigint) END)::bigint,
       bool_and(n.jobs < 10000)
FROM tandem.ready AS r CROSS JOIN generate_series(r.priority, 9) AS g(priority)
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs, min(u.pos) AS first, max(u.pos) AS last,
           CASE WHEN g.priority = r.priority THEN r.pos ELSE (SELECT p.last_value FROM tandem.ready_position AS p) END AS until
    FROM (SELECT x.pos FROM tandem.ready AS x WHERE x.queue = r.queue AND x.priority = g.priority
          AND x.pos >= (SELECT coalesce(max(f.floor), 0) FROM tandem.lane_floor AS f
                        WHERE f.queue = r.queue AND f.priority = g.priority)
          AND x.pos < CASE WHEN g.priority > r.priority THEN 9223372036854775807 ELSE r.pos END
          ORDER BY x.pos LIMIT 10000) AS u) AS n
WHERE r.job_id = $1 HAVING count(*) > 0
UNION ALL
SELECT a.jobs, a.jobs < 10000 FROM tandem.blocked AS b CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT FROM tandem.blocked AS x WHERE x.queue = b.queue AND x.partition_key = b.partition_key
        AND (x.band > b.band OR x.band = b.band AND x.pos < b.pos) LIMIT 10000) AS u) AS a
WHERE b.job_id = $1
$$;
