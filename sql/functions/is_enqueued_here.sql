-- tandem.is_enqueued_here(job): whether the transaction that asks, or a savepoint of it, has written the job. Internal.
-- A row that we see and whose transaction is still in progress can only be our own. Rows hold the lower 32 bits of its id.
CREATE OR REPLACE FUNCTION tandem.is_enqueued_here(job bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce((
    SELECT pg_xact_status((x.near + CASE WHEN x.near - x.ours > 2147483648 THEN -4294967296
                                         WHEN x.ours - x.near > 2147483648 THEN 4294967296 ELSE 0 END)::text::xid8) = 'in progress'
    FROM (SELECT c.ours, (c.ours >> 32 << 32) + j.xmin::text::bigint AS near
          FROM tandem.job AS j, (SELECT pg_current_xact_id()::text::bigint AS ours) AS c WHERE j.id = $1) AS x), false)
$$;
