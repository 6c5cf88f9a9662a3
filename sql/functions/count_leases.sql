-- tandem.count_leases(queue, key, floor, most): how many jobs of a key run, from the lowest slot that may live on, and that
-- slot. Internal to admission, inlined there. Where nothing is limited (`most` is NULL) nothing is counted.
CREATE OR REPLACE FUNCTION tandem.count_leases(queue_name text, key text, floor bigint, most integer)
RETURNS TABLE (live bigint, lease_floor bigint)
LANGUAGE sql STABLE
AS $$
SELECT count(*), coalesce(min(l.slot), floor) FROM tandem.lease AS l
WHERE most IS NOT NULL AND l.queue = queue_name AND l.partition_key = key AND l.kind IS NOT NULL AND l.slot >= floor
$$;
