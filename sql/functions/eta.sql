-- tandem.eta(job): when a waiting or running job is expected to start and to end, with 80 % bands, from how long tries of its
-- queue and kind ran in the last ten minutes. One row for any job that has not ended. Where nothing can be said the times
-- are NULL and `basis` says why: no-samples, no-worker, queue-paused, limit-is-zero, waits-for-jobs; else rates, or running.
CREATE OR REPLACE FUNCTION tandem.eta(job bigint) RETURNS TABLE (
    basis text, "position" bigint, position_exact boolean, start_at timestamptz, start_low timestamptz, start_high timestamptz,
    finish_at timestamptz, finish_low timestamptz, finish_high timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
WITH place AS MATERIALIZED (
    SELECT s.queue, s.kind, s.status, s.waiting_for, s.partition_key, s.started_at, c.at, CASE WHEN s.waiting_for = 'time' THEN greatest(c.at, s.next_attempt_at) ELSE c.at END AS from_at
    FROM tandem.job_status AS s, (SELECT tandem.clock() AS at) AS c
    WHERE s.job_id = $1 AND s.status IN ('PENDING', 'RUNNING')
), facts AS MATERIALIZED (
    SELECT p.queue, p.kind, p.partition_key, p.status, p.waiting_for, p.started_at, p.at, p.from_at, a.ahead, a.exact, q.paused_at,
           t.mean, t.deviation, t.tries, coalesce(o.mean, t.mean) AS own, coalesce(o.deviation, t.deviation) AS own_deviation,
           tandem.queue_servers(p.queue, t.busy) AS slots, r.jobs AS running, coalesce(k.exempt, false) AS exempt
    FROM place AS p
    LEFT JOIN LATERAL (SELECT j.ahead, j.exact FROM tandem.jobs_ahead($1) AS j) AS a ON true
    LEFT JOIN tandem.queue AS q ON q.name = p.queue
    LEFT JOIN tandem.key AS k ON k.queue = p.queue AND k.partition_key = p.partition_key
    LEFT JOIN LATERAL (SELECT s.mean, s.deviation, s.tries, s.busy FROM tandem.service_stats(p.queue) AS s WHERE s.kind IS NULL) AS t ON true
    LEFT JOIN LATERAL (SELECT s.mean, s.deviation FROM tandem.service_stats(p.queue) AS s WHERE s.kind = p.kind) AS o ON true
    CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM tandem.lease AS l WHERE l.queue = p.queue AND (
        p.waiting_for NOT IN ('limit', 'key') OR coalesce(l.partition_key, '') = coalesce(p.partition_key, ''))) AS r
), judged AS MATERIALIZED (
    SELECT f.queue, f.kind, f.partition_key, f.slots, f.exempt, f.running, f.mean, f.deviation, f.tries, f.ahead, f.exact, f.at, f.from_at,
           f.started_at, f.own, f.own_deviation, f.waiting_for IN ('limit', 'key') AND EXISTS (SELECT FROM tandem.concurrency_limit) AS shared,
           CASE WHEN f.status = 'RUNNING' THEN 'running' WHEN f.waiting_for = 'job' THEN 'waits-for-jobs'
                WHEN f.paused_at IS NOT NULL THEN 'queue-paused' WHEN f.slots IS NULL THEN 'no-worker'
                WHEN f.mean IS NULL THEN 'no-samples' ELSE 'rates' END AS basis
    FROM facts AS f)
SELECT CASE WHEN j.basis = 'rates' AND b.servers = 0 THEN 'limit-is-zero' ELSE j.basis END, j.ahead + 1, j.exact, s.at + s.wait * i.s, s.at + s.low * i.s, s.at + s.high * i.s,
       CASE WHEN e.expected IS NOT NULL THEN greatest(j.at, s.at + e.expected * i.s) END,
       CASE WHEN e.low IS NOT NULL THEN greatest(j.at, s.at + e.low * i.s) END, CASE WHEN e.high IS NOT NULL THEN greatest(j.at, s.at + e.high * i.s) END
FROM judged AS j CROSS JOIN (SELECT interval '1 s' AS s) AS i
LEFT JOIN LATERAL (
    SELECT w.expected, h.low, h.high, w.servers FROM tandem.global_turns(j.queue, j.exempt, j.slots) AS g
    CROSS JOIN LATERAL (SELECT tandem.eta_servers(j.queue, j.partition_key, j.kind, g.servers) AS servers) AS v, LATERAL (
        SELECT b.expected, b.low, b.high, t.servers
        FROM tandem.eta_terms($1, greatest(0, coalesce(j.ahead, 0) + 1 - greatest(0, v.servers - j.running)),
            coalesce(g.others * v.servers / nullif(g.servers * j.mean, 0), 0), v.servers, j.mean, j.deviation, j.tries) AS t
        LEFT JOIN LATERAL tandem.eta_band(t.starts, nullif(t.servers, 0), nullif(t.mean, 0), t.deviation, t.tries) AS b ON true
        ORDER BY b.expected DESC NULLS FIRST LIMIT 1) AS w
    CROSS JOIN LATERAL tandem.shared_band(w.expected, w.low, w.high, j.shared) AS h
    ORDER BY w.expected NULLS LAST LIMIT 1) AS b ON j.basis = 'rates'
LEFT JOIN LATERAL (SELECT j.started_at AS at, 0 AS wait, 0 AS low, 0 AS high WHERE j.basis = 'running'
                   UNION ALL SELECT j.from_at, b.expected, b.low, b.high WHERE j.basis = 'rates' AND b.expected IS NOT NULL) AS s ON true
LEFT JOIN LATERAL tandem.finish_band(s.wait, s.low, s.high, j.own, j.own_deviation) AS e ON e.expected IS NOT NULL
$$;
