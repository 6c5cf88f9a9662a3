-- tandem.kinds_ahead(job): the kinds of the jobs of its key that come before a blocked job of an unordered queue (looked up to 10,000
-- jobs), and its own: how many, how many of the key run, how long one runs, and how many of them may run at once (NULL: as many as
-- there are slots). Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.kinds_ahead(job bigint) RETURNS TABLE (
    kind text, jobs bigint, running bigint, mean float8, deviation float8, most float8, room bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH place AS MATERIALIZED (
    SELECT b.queue, b.partition_key, b.band, b.pos, j.kind FROM tandem.blocked AS b JOIN tandem.job AS j ON j.id = b.job_id
    WHERE b.job_id = $1
), ahead AS MATERIALIZED (
    SELECT j.kind, count(*) AS jobs FROM (
        SELECT x.job_id FROM place AS p JOIN tandem.blocked AS x ON x.queue = p.queue AND x.partition_key = p.partition_key
        AND (x.band > p.band OR x.band = p.band AND x.pos < p.pos) LIMIT 10000) AS u
    JOIN tandem.job AS j ON j.id = u.job_id GROUP BY j.kind
), stats AS MATERIALIZED (
    SELECT s.kind, s.mean, s.deviation FROM place AS p CROSS JOIN LATERAL tandem.service_stats(p.queue) AS s
)
SELECT n.kind, coalesce(a.jobs, 0),
       (SELECT count(*) FROM tandem.lease AS l WHERE l.queue = p.queue AND l.kind = n.kind AND l.exempt IS NOT NULL
        AND coalesce(l.partition_key, '') = p.partition_key),
       coalesce(s.mean, every.mean), coalesce(s.deviation, every.deviation), tandem.kind_servers(n.kind),
       c.max_running - (SELECT count(*) FROM tandem.lease AS l WHERE l.kind = n.kind AND l.slot IS NOT NULL AND c.max_running IS NOT NULL)
FROM place AS p CROSS JOIN LATERAL (SELECT a.kind FROM ahead AS a UNION SELECT p.kind) AS n
LEFT JOIN ahead AS a ON a.kind = n.kind LEFT JOIN stats AS s ON s.kind = n.kind
LEFT JOIN stats AS every ON every.kind IS NULL
LEFT JOIN tandem.concurrency_limit AS c ON c.name = 'kind:' || n.kind
$$;
