-- tandem.kept_in_sight(queue, key, heads, live, lease_floor): from where a turn looks next. In an ordered queue the place of a
-- job that runs stays in sight: it may come back to it (a retry, a rescue) before admission hears so. Internal to admission.
CREATE OR REPLACE FUNCTION tandem.kept_in_sight(q tandem.queue, key text, heads bigint[], live bigint, lease_floor bigint) RETURNS bigint[]
LANGUAGE sql STABLE
RETURN CASE WHEN q.ordered AND live > 0 THEN ARRAY[least(heads[1], (
    SELECT min(l.job_id) FROM (  -- OFFSET: not by the order of ids, past all that were
        SELECT o.job_id FROM tandem.lease AS o
        WHERE o.queue = q.name AND o.partition_key = key AND o.kind IS NOT NULL AND o.slot >= lease_floor OFFSET 0) AS l))] || heads[2:] ELSE heads END;
