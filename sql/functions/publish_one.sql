-- tandem.publish_one(...): one message without an id of its own: tandem.publish_messages without the array machinery, whose
-- statements cost more than the rows of one message. Internal. The transaction has its xid; `at` was read after it.
CREATE OR REPLACE FUNCTION tandem.publish_one(
    topic text, topic_id integer, version integer, queues text[], at timestamptz, payload jsonb, key text, header jsonb,
    schema smallint, wake text, OUT id uuid, OUT place bigint
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    xid text := pg_current_xact_id();
    managed text[] := ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed AND q.name = ANY (queues));
    body jsonb; queue text; mark text; wakes boolean; job bigint;
BEGIN
    place := nextval('tandem.message_position');
    id := tandem.uuid7(at);
    INSERT INTO tandem.message ("position", published_at, xid, message_id, topic_id, version, schema_version, key, payload, headers)
    VALUES (place, at, xid::bigint, id, topic_id, version, schema, key, payload, header);
    body := tandem.delivery(topic, place, id, key, schema, at, header, payload);
    FOREACH queue IN ARRAY queues LOOP
        job := nextval('tandem.job_id');
        INSERT INTO tandem.job (id, created_at, event_id, priority, queue, kind, partition_key, payload, context)
        VALUES (job, at, id, 5, queue, queue, key, body, header);
        -- As in tandem.enqueue: the first row of a transaction and queue wakes it at the commit.
        mark := 'tandem.queue_' || tandem.queue_number(queue);
        wakes := wake = 'commit' AND current_setting(mark, true) IS DISTINCT FROM xid;
        IF wakes THEN mark := set_config(mark, xid, true); END IF;
        IF queue = ANY (managed) THEN
            PERFORM tandem.block_job(job, at, queue, 5, key, wakes);
        ELSE
            INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, wakes, queue, partition_key)
            VALUES (nextval('tandem.ready_position'), job, at, 5, 0, 0, false, wakes, queue, key);
        END IF;
    END LOOP;
END
$$;
