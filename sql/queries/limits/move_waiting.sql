-- Moves waiting jobs to where they belong, up to `most`; answers how many.
SELECT tandem.move_waiting(%(queue)s::text, %(most)s::integer) AS moved
