-- tandem.block_job(...): tandem.enqueue where the queue is managed: the job waits in `blocked`. Internal.
-- `wakes` says that the job was to carry the mark that wakes its queue at the commit, which only `ready` can.
CREATE OR REPLACE FUNCTION tandem.block_job(
    id bigint, at timestamptz, queue text, priority integer, partition_key text, wakes boolean
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.block_jobs(ARRAY[id], ARRAY[queue], ARRAY[partition_key], ARRAY[priority]::smallint[], '{0}', '{0}', '{f}',
                              ARRAY[at], ARRAY[NULL::timestamptz], false);
    IF wakes THEN
        PERFORM set_config('tandem.queue_' || tandem.queue_number(queue), '', true);
        PERFORM tandem.wake_queue_at_commit(queue);
    END IF;
END
$$;
