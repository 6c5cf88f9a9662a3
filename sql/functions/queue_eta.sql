-- tandem.queue_eta(queue): when what waits in a queue now will have been started, with an 80 % band; how many wait (exact up to
-- 10,000), and how many can run at once. `basis` as in tandem.eta. Where limits of kinds hold, the latest of the whole and each
-- limited kind (looked up to 10,000 jobs).
CREATE OR REPLACE FUNCTION tandem.queue_eta(queue text) RETURNS TABLE (
    basis text, waiting bigint, waiting_exact boolean, servers float8, mean_seconds float8, drained_at timestamptz,
    drained_low timestamptz, drained_high timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
WITH kinds AS MATERIALIZED (
    SELECT c.max_running, substr(c.name, 6) AS kind, w.jobs FROM tandem.concurrency_limit AS c
    JOIN (SELECT 'kind:' || j.kind AS name, count(*) AS jobs FROM (
              SELECT b.job_id FROM tandem.blocked AS b
              WHERE b.queue = $1 AND EXISTS (SELECT FROM tandem.concurrency_limit AS c WHERE c.name <> 'global') LIMIT 10000) AS b
          JOIN tandem.job AS j ON j.id = b.job_id GROUP BY 1) AS w ON w.name = c.name
)
SELECT CASE WHEN q.paused_at IS NOT NULL THEN 'queue-paused' WHEN v.servers IS NULL THEN 'no-worker'
            WHEN t.mean IS NULL THEN 'no-samples' WHEN v.servers = 0 OR z.stopped THEN 'limit-is-zero' ELSE 'rates' END,
       w.jobs, w.jobs < 10000, v.servers, t.mean, c.at + b.expected * interval '1 s', c.at + b.low * interval '1 s',
       c.at + b.high * interval '1 s'
FROM (SELECT tandem.clock() AS at) AS c CROSS JOIN (
    SELECT EXISTS (SELECT FROM kinds AS k WHERE k.max_running = 0) OR EXISTS (
        SELECT FROM tandem.queue AS q JOIN tandem.concurrency_limit AS g ON g.name = 'global' AND g.max_running = 0
        WHERE q.name = $1 AND q.managed) AS stopped) AS z
LEFT JOIN LATERAL (SELECT s.mean, s.deviation, s.tries, s.busy FROM tandem.service_stats($1) AS s WHERE s.kind IS NULL) AS t ON true
CROSS JOIN LATERAL (SELECT tandem.queue_servers($1, t.busy) AS servers) AS v
LEFT JOIN tandem.queue AS q ON q.name = $1
CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
    (SELECT FROM tandem.ready AS r WHERE r.queue = $1 LIMIT 10000)
    UNION ALL (SELECT FROM tandem.blocked AS r WHERE r.queue = $1 LIMIT 10000) LIMIT 10000) AS u) AS w
LEFT JOIN LATERAL (
    SELECT x.expected, x.low, x.high FROM tandem.global_turns($1, false, v.servers) AS g CROSS JOIN LATERAL (
        SELECT b.expected, b.low, b.high FROM (
            SELECT w.jobs + coalesce(g.others / nullif(t.mean, 0), 0) AS jobs, g.servers, t.mean, t.deviation, t.tries
            UNION ALL SELECT k.jobs, least(g.servers, k.max_running), coalesce(s.mean, t.mean), coalesce(s.deviation, t.deviation), t.tries
            FROM kinds AS k LEFT JOIN tandem.service_stats($1) AS s ON s.kind = k.kind) AS u
        CROSS JOIN LATERAL tandem.eta_band(u.jobs, nullif(u.servers, 0), u.mean, u.deviation, u.tries) AS b
        ORDER BY b.expected DESC NULLS FIRST LIMIT 1) AS x
    ORDER BY x.expected NULLS LAST LIMIT 1
) AS b ON q.paused_at IS NULL AND v.servers > 0 AND t.mean > 0 AND NOT z.stopped
$$;
