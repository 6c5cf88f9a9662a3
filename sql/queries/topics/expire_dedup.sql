-- Forgets message ids whose window is over, some at a time; they have been free since then.
WITH old AS MATERIALIZED (
    SELECT k.ctid AS tid FROM tandem.message_dedup AS k
    WHERE k.expires_at <= (SELECT tandem.clock()) ORDER BY k.expires_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM tandem.message_dedup AS k USING old AS o WHERE k.ctid = o.tid RETURNING k.topic_id
