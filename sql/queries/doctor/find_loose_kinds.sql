-- Kinds with a limit that also wait or run in plain queues, where no limit of a kind holds: of what waits there the first 10,000
-- jobs are looked at, of what ran the last hour's samples.
SELECT u.kind, array_agg(DISTINCT u.queue ORDER BY u.queue) AS queues
FROM (
    SELECT j.kind, w.queue FROM (
        (SELECT r.job_id, r.queue FROM tandem.ready AS r
         WHERE EXISTS (SELECT FROM tandem.concurrency_limit AS c WHERE c.name <> 'global') LIMIT 10000)
        UNION ALL (SELECT l.job_id, l.queue FROM tandem.lease AS l
                   WHERE EXISTS (SELECT FROM tandem.concurrency_limit AS c WHERE c.name <> 'global') LIMIT 10000)) AS w
    JOIN tandem.job AS j ON j.id = w.job_id
    UNION ALL
    SELECT s.kind, s.queue FROM tandem.service_sample AS s WHERE s.at > tandem.clock() - interval '1 hour') AS u
JOIN tandem.concurrency_limit AS c ON c.name = 'kind:' || u.kind
WHERE NOT EXISTS (SELECT FROM tandem.queue AS q WHERE q.name = u.queue AND q.managed)
GROUP BY u.kind ORDER BY u.kind
