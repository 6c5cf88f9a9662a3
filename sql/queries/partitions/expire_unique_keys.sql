-- Forgets unique keys whose period is over, some at a time; they have been free since then.
WITH old AS MATERIALIZED (
    SELECT k.ctid AS tid FROM tandem.unique_key AS k
    WHERE k.expires_at <= (SELECT tandem.clock()) ORDER BY k.expires_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM tandem.unique_key AS k USING old AS o WHERE k.ctid = o.tid RETURNING k.job_id
