-- tandem.why_blocked(job): what admission waits for before it lets a job of a managed queue run, in words; the codes in front
-- are stable: key-halted, key-order, key-limit, not-before, queue-limit, kind-limit, global-limit, turn, slots. NULL: nothing does.
CREATE OR REPLACE FUNCTION tandem.why_blocked(job bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT string_agg(r.code || ': ' || r.words, '; ' ORDER BY r.rank) FILTER (WHERE r.holds)
FROM tandem.blocked AS b JOIN tandem.queue AS q ON q.name = b.queue AND q.managed JOIN tandem.job AS j ON j.id = b.job_id
LEFT JOIN tandem.key AS k ON k.queue = b.queue AND k.partition_key = b.partition_key
CROSS JOIN LATERAL (SELECT count(*) AS live, min(l.job_id) AS first, (
        SELECT count(*) FROM (SELECT FROM tandem.blocked AS x WHERE x.queue = b.queue AND x.partition_key = b.partition_key
                              AND (x.band > b.band OR x.band = b.band AND x.pos < b.pos) LIMIT 1000) AS x) AS ahead
    FROM tandem.lease AS l
                    WHERE l.queue = b.queue AND l.partition_key = b.partition_key AND l.kind IS NOT NULL) AS own
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.slot IS NOT NULL) AS live, count(*) AS leases, (
        SELECT sum(w.concurrency) FROM tandem.worker AS w
        WHERE b.queue = ANY (w.queues) AND w.stopped_at IS NULL AND w.seen_at > tandem.clock() - interval '1 minute') AS slots
    FROM tandem.lease AS l WHERE l.queue = b.queue) AS held
LEFT JOIN LATERAL (SELECT o.job_id FROM tandem.blocked AS o WHERE o.queue = b.queue AND o.partition_key = b.partition_key
                   AND o.lane = b.lane AND o.band = b.band AND o.pos < b.pos ORDER BY o.pos LIMIT 1) AS ahead ON true
LEFT JOIN LATERAL (SELECT t.due_at FROM tandem.turn AS t WHERE t.queue = b.queue AND t.partition_key = b.partition_key
                   AND t.lane = b.lane ORDER BY t.seq DESC LIMIT 1) AS turn ON true
LEFT JOIN tandem.halted AS h ON h.queue = b.queue AND h.partition_key = b.partition_key
LEFT JOIN tandem.concurrency_limit AS g ON g.name = 'global' AND k.exempt IS NOT TRUE
LEFT JOIN tandem.concurrency_limit AS c ON c.name = 'kind:' || j.kind
CROSS JOIN LATERAL (SELECT count(*) AS live FROM tandem.lease AS l WHERE c.name IS NOT NULL AND l.slot IS NOT NULL AND l.kind = j.kind) AS kin
CROSS JOIN LATERAL (SELECT count(*) AS live FROM tandem.lease AS l WHERE g.name IS NOT NULL AND l.slot IS NOT NULL AND NOT l.exempt) AS total
CROSS JOIN LATERAL (VALUES
    (1, h.job_id IS NOT NULL, 'key-halted', format('its key stopped behind dead letter %s', h.job_id)),
    (2, q.ordered AND b.partition_key <> '' AND coalesce(own.first, ahead.job_id) IS NOT NULL, 'key-order',
     format('job %s of its key comes first', coalesce(own.first, ahead.job_id))),
    (3, NOT q.ordered AND b.partition_key <> '' AND own.live >= coalesce(k.max_running, q.key_max_running), 'key-limit',
     format('%s of %s jobs of its key run', own.live, coalesce(k.max_running, q.key_max_running))),
    (4, turn.due_at > tandem.clock(), 'not-before', format('its key may start the next one at %s', turn.due_at)),
    (5, held.live >= q.max_running, 'queue-limit', format('%s of %s jobs of its queue run', held.live, q.max_running)),
    (6, kin.live >= c.max_running, 'kind-limit', format('%s of %s jobs of kind %s run', kin.live, c.max_running, j.kind)),
    (7, total.live >= g.max_running, 'global-limit', format('%s of %s jobs of managed queues run', total.live, g.max_running)),
    (8, NOT q.ordered AND own.ahead > 0, 'turn', format('%s jobs of its key come first', own.ahead || CASE WHEN own.ahead = 1000 THEN ' or more' ELSE '' END)),
    (9, held.slots <= held.leases, 'slots', format('its workers hold %s jobs and have %s slots', held.leases, held.slots))
) AS r(rank, holds, code, words)
WHERE b.job_id = $1
$$;
