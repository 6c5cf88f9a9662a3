-- tandem.queue_servers(queue, busy): how many jobs of a queue can run at once: what its workers were seen to run (`busy`), or
-- their slots divided among the queues that have work; at most its limit. NULL without a live worker. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.queue_servers(queue text, busy float8) RETURNS float8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN count(*) > 0 THEN least(greatest(coalesce(busy, 0), sum(w.concurrency::float8 / greatest(1, o.queues))),
                                         sum(w.concurrency), max(m.most)) END
FROM tandem.worker AS w CROSS JOIN (SELECT tandem.clock() AS at) AS c
LEFT JOIN LATERAL (
    SELECT count(*) AS queues FROM unnest(w.queues) AS q(name)
    WHERE q.name = $1 OR EXISTS (SELECT FROM tandem.ready AS r WHERE r.queue = q.name)
       OR EXISTS (SELECT FROM tandem.blocked AS b WHERE b.queue = q.name)) AS o ON true
LEFT JOIN LATERAL (SELECT l.max_running::float8 AS most FROM tandem.queue AS l WHERE l.name = $1 AND l.managed) AS m ON true
WHERE $1 = ANY (w.queues) AND w.stopped_at IS NULL AND w.seen_at > c.at - interval '1 minute'
$$;
