-- tandem.queue_eta(queue): when what waits in a queue now will have been started, with an 80 % band; how many wait (exact up to
-- 10,000), and how many can run at once. `basis` as in tandem.eta.
CREATE OR REPLACE FUNCTION tandem.queue_eta(queue text) RETURNS TABLE (
    basis text, waiting bigint, waiting_exact boolean, servers float8, mean_seconds float8, drained_at timestamptz,
    drained_low timestamptz, drained_high timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
SELECT CASE WHEN q.paused_at IS NOT NULL THEN 'queue-paused' WHEN v.servers IS NULL THEN 'no-worker'
            WHEN t.mean IS NULL THEN 'no-samples' ELSE 'rates' END,
       w.jobs, w.jobs < 10000, v.servers, t.mean, c.at + b.expected * interval '1 s', c.at + b.low * interval '1 s',
       c.at + b.high * interval '1 s'
FROM (SELECT tandem.clock() AS at) AS c
LEFT JOIN LATERAL (SELECT s.mean, s.deviation, s.tries, s.busy FROM tandem.service_stats($1) AS s WHERE s.kind IS NULL) AS t ON true
CROSS JOIN LATERAL (SELECT tandem.queue_servers($1, t.busy) AS servers) AS v
LEFT JOIN tandem.queue AS q ON q.name = $1
CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
    (SELECT FROM tandem.ready AS r WHERE r.queue = $1 LIMIT 10000)
    UNION ALL (SELECT FROM tandem.blocked AS r WHERE r.queue = $1 LIMIT 10000) LIMIT 10000) AS u) AS w
LEFT JOIN LATERAL tandem.eta_band(w.jobs, v.servers, t.mean, t.deviation, t.tries) AS b
    ON q.paused_at IS NULL AND v.servers > 0 AND t.mean > 0
$$;
