-- tandem.finish_leases(...): finishes succeeded jobs as finish_jobs does, and answers the ids that were still ours. Internal
-- to admission: a slot that ends and its next job are one transaction, so that a limit that is reached stays reached. What
-- ended in `heard_by`, the queue that is admitted to next, is answered as touches not yet written. Where that is a topic's
-- group, the jobs are its deliveries.
-- `= ANY (ARRAY[…])` keeps leases looked up one by one: the statement finish_jobs says why.
CREATE OR REPLACE FUNCTION tandem.finish_leases(
    heard_by text, job_ids bigint[], tokens bigint[], ran_ms double precision[], results text[], ttls double precision[],
    OUT finished bigint[], OUT ends tandem.touch[]
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH input AS MATERIALIZED (
        SELECT u.job_id, u.token, u.ran_ms, u.result, u.ttl
        FROM unnest(job_ids, tokens, ran_ms, results, ttls) AS u(job_id, token, ran_ms, result, ttl) ORDER BY u.job_id
    ), clock AS MATERIALIZED (SELECT tandem.clock() AS at), gone AS (
        DELETE FROM tandem.lease AS l USING input AS i
        WHERE l.job_id = ANY (ARRAY[i.job_id]) AND l.token = i.token
        RETURNING l.job_id, l.token, l.worker, l.attempt, i.ran_ms, i.result, i.ttl, l.queue, l.partition_key, l.slot, l.charged_ms
    ), by_key AS (
        SELECT g.queue, coalesce(g.partition_key, '') AS partition_key, count(*) AS ended, sum(g.ran_ms) AS ran, sum(g.charged_ms) AS charged
        FROM gone AS g WHERE g.slot IS NOT NULL GROUP BY 1, 2
    ), told AS (
        INSERT INTO tandem.touch (queue, partition_key, ended, ran_ms, charged_ms)
        SELECT k.queue, k.partition_key, k.ended, k.ran, k.charged FROM by_key AS k WHERE k.queue IS DISTINCT FROM heard_by
    ), closed AS (
        INSERT INTO tandem.done (job_id, token, worker, started_at, finished_at, attempt, outcome, result, result_expires_at)
        SELECT g.job_id, g.token, g.worker, c.at - g.ran_ms * interval '1 ms', c.at, g.attempt, 'SUCCEEDED', g.result::jsonb,
               c.at + g.ttl * interval '1 s'
        FROM gone AS g CROSS JOIN clock AS c
        RETURNING job_id
    )
    SELECT (SELECT coalesce(array_agg(c.job_id), '{}') FROM closed AS c),
           (SELECT array_agg(ROW(k.queue, 0, k.partition_key, NULL, NULL, k.ended, k.ran, k.charged)::tandem.touch)
            FROM by_key AS k WHERE k.queue = heard_by)
    INTO finished, ends;
    IF starts_with(heard_by, 'topic.') THEN  -- deliveries: what the audit log of topics will tell
        INSERT INTO tandem.delivery_end (xid, queue, action, worker, attempt, started_at, ended_at, job_ids)
        SELECT pg_current_xact_id(), heard_by, 'ack', d.worker, d.attempt, min(d.started_at), max(d.finished_at), array_agg(d.job_id)
        FROM tandem.done AS d WHERE d.job_id = ANY (finished) GROUP BY d.worker, d.attempt;
    END IF;
END
$$;
