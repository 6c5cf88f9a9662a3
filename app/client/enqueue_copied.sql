-- Turns what was copied into jobs, in the order in which it was copied; answers their ids.
SELECT c.ids FROM tandem.enqueue_copied(%(wake)s::text) AS c(ids)
