-- tandem.begin_copy(): makes sure that this session has its staging table pg_temp.tandem_copy, into which a producer COPYs
-- jobs in the same transaction, before tandem.enqueue_copied() makes jobs of them. Rows never outlive the transaction.
-- JSON is staged as text: a driver may have its own idea of how to send jsonb.
CREATE OR REPLACE FUNCTION tandem.begin_copy() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass('pg_temp.tandem_copy') IS NOT NULL THEN
        PERFORM tandem.check_copy();
        RETURN false;
    END IF;
    CREATE TEMPORARY TABLE tandem_copy (
        kind text COLLATE "C", payload text, queue text COLLATE "C", priority smallint, run_at timestamptz,
        partition_key text COLLATE "C", event_id uuid, policy text, context text
    ) ON COMMIT DELETE ROWS;
    GRANT INSERT ON pg_temp.tandem_copy TO PUBLIC;  -- a temporary table: nobody but this session can reach it
    RETURN true;
END
$$;
