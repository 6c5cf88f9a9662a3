-- Every limit with what runs under it now: global, kinds, managed queues, keys that have something of their own, stopped keys.
SELECT c.name AS target, c.max_running, NULL::float8 AS weight, NULL::float8 AS rate, NULL::integer AS burst, NULL::boolean AS exempt,
       (SELECT count(*) FROM tandem.lease AS l
        WHERE l.slot IS NOT NULL AND CASE WHEN c.name = 'global' THEN NOT l.exempt ELSE l.kind = substr(c.name, 6) END) AS running,
       NULL::text AS note
FROM tandem.concurrency_limit AS c
UNION ALL
SELECT 'queue:' || q.name, q.max_running, NULL, q.key_rate, CASE WHEN q.key_rate IS NOT NULL THEN q.key_burst END, NULL,
       (SELECT count(*) FROM tandem.lease AS l WHERE l.exempt IS NOT NULL AND l.queue = q.name),
       concat_ws(', ', CASE WHEN q.ordered THEN 'ordered, past dead letters: ' || q.dead_head END,
                 'each key: ' || q.key_max_running, CASE WHEN q.rank_keys THEN 'priority ranks keys' END)
FROM tandem.queue AS q WHERE q.managed
UNION ALL
SELECT format('key:%%s/%%s', k.queue, k.partition_key), k.max_running, k.weight, k.rate, k.burst, k.exempt,
       (SELECT count(*) FROM tandem.lease AS l WHERE l.kind IS NOT NULL AND l.queue = k.queue AND l.partition_key = k.partition_key),
       (SELECT 'stopped behind dead letter ' || h.job_id FROM tandem.halted AS h
        WHERE h.queue = k.queue AND h.partition_key = k.partition_key)
FROM tandem.key AS k
UNION ALL
SELECT format('key:%%s/%%s', h.queue, h.partition_key), NULL, NULL, NULL, NULL, NULL, 0, 'stopped behind dead letter ' || h.job_id
FROM tandem.halted AS h
WHERE NOT EXISTS (SELECT FROM tandem.key AS k WHERE k.queue = h.queue AND k.partition_key = h.partition_key)
ORDER BY 1
