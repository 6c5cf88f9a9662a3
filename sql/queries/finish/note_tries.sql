-- Notes for the audit log of topics how tries of deliveries have failed; in the transaction that wrote the failed tries.
INSERT INTO tandem.delivery_end (xid, queue, action, worker, attempt, started_at, ended_at, job_ids)
SELECT pg_current_xact_id(), t.queue, t.action, t.worker, t.attempt, min(t.started_at), max(t.finished_at), array_agg(t.job_id)
FROM (
    SELECT j.queue, CASE a.verdict WHEN 'RETRY' THEN 'nack' WHEN 'RESCUED' THEN 'rescue' WHEN 'CANCELLED' THEN 'cancel' ELSE 'dead' END AS action,
           a.worker, a.attempt, a.started_at, a.finished_at, a.job_id
    FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token)
    JOIN tandem.attempt AS a ON a.job_id = u.job_id AND a.token = u.token JOIN tandem.job AS j ON j.id = u.job_id
) AS t
GROUP BY t.queue, t.action, t.worker, t.attempt
