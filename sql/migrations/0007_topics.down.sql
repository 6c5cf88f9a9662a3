-- Removes what 0007_topics made, with every message and the audit log.
DROP TABLE tandem.delivery_end CASCADE;
DROP TABLE tandem.audit_head CASCADE;
DROP TABLE tandem.audit_chain CASCADE;
DROP TABLE tandem.audit_entry CASCADE;
DROP TABLE tandem.topic_grant CASCADE;
DROP TABLE tandem.topic_loss CASCADE;
DROP TABLE tandem.topic_consumer CASCADE;
DROP TABLE tandem.topic_fill CASCADE;
DROP TABLE tandem.message_dedup CASCADE;
DROP TABLE tandem.message CASCADE;
DROP TABLE tandem.topic_group CASCADE;
DROP TABLE tandem.topic CASCADE;
DROP FUNCTION tandem.drop_message_partition CASCADE;
DROP FUNCTION tandem.unread_messages CASCADE;
DROP FUNCTION tandem.fill_topic CASCADE;
DROP FUNCTION tandem.fill_gap CASCADE;
DROP FUNCTION tandem.deliver_again CASCADE;
DROP FUNCTION tandem.create_topic_group CASCADE;
DROP FUNCTION tandem.order_topic_group CASCADE;
DROP FUNCTION tandem.create_topic CASCADE;
DROP FUNCTION tandem.add_message_partition CASCADE;
DROP FUNCTION tandem.publish CASCADE;
DROP FUNCTION tandem.publish_messages CASCADE;
DROP FUNCTION tandem.publish_one CASCADE;
DROP FUNCTION tandem.deliver_messages CASCADE;
DROP FUNCTION tandem.claim_message_ids CASCADE;
DROP FUNCTION tandem.publish_target CASCADE;
DROP FUNCTION tandem.delivery CASCADE;
DROP FUNCTION tandem.topic_queue CASCADE;
DROP FUNCTION tandem.uuid7 CASCADE;
DROP FUNCTION tandem.refuse_change CASCADE;
DROP SEQUENCE tandem.message_position;

-- tandem.finish_leases(...): finishes succeeded jobs as finish_jobs does, and answers the ids that were still ours. Internal
-- to admission: a slot that ends and its next job are one transaction, so that a limit that is reached stays reached. What
-- ended in `heard_by`, the queue that is admitted to next, is answered as touches not yet written.
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
        WHERE l.job_id = i.job_id AND l.token = i.token
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
END
$$;
