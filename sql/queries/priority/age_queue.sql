-- Sets how the waiting jobs of a queue age, or with NULLs forgets it: then what the code declares counts.
INSERT INTO tandem.queue AS q (name, age_after, age_step, age_most)
VALUES (%(queue)s, %(after)s::float8 * interval '1 s', %(step)s, %(most)s)
ON CONFLICT (name) DO UPDATE SET age_after = excluded.age_after, age_step = excluded.age_step, age_most = excluded.age_most
RETURNING q.name AS queue, extract(epoch FROM q.age_after)::float8 AS after, q.age_step AS step, q.age_most AS most
