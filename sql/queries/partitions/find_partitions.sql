-- Where the id sequence stands in partitions of 10^8 ids, whether the partition it stands in was begun more than
-- `every` ago, and which partitions exist.
SELECT s.last_value / 100000000 AS current,
       coalesce((SELECT j.created_at < tandem.clock() - %(every)s::interval FROM tandem.job AS j
                 WHERE j.id >= s.last_value / 100000000 * 100000000 ORDER BY j.id LIMIT 1), false) AS old,
       ARRAY(SELECT substring(c.relname FROM 5)::bigint FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'tandem.job'::regclass AND c.relname ~ '^job_[0-9]+$' ORDER BY 1) AS numbers
FROM tandem.job_id AS s
