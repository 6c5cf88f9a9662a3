-- tandem.check_copy(): raises unless pg_temp.tandem_copy is the table that begin_copy made. Internal. A caller could put
-- a view or table with triggers of its own in its place, whose code would then run with the rights of our functions.
CREATE OR REPLACE FUNCTION tandem.check_copy() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.oid = to_regclass('pg_temp.tandem_copy') AND c.relkind = 'r' AND c.relowner = quote_ident(current_user)::regrole
    ) THEN
        RAISE EXCEPTION 'pg_temp.tandem_copy is not the staging table of tandem.begin_copy()'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call tandem.begin_copy() first, in the same transaction.';
    END IF;
END
$$;
