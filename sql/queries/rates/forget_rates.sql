-- Forgets rates that are full again, some at a time: a name without a row has all of its burst.
WITH full_again AS MATERIALIZED (
    SELECT r.ctid AS tid FROM tandem.rate AS r WHERE r.tat <= (SELECT tandem.clock()) ORDER BY r.tat LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
DELETE FROM tandem.rate AS r USING full_again AS f WHERE r.ctid = f.tid RETURNING r.name
