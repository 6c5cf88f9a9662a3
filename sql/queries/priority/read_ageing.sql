-- The ageing that operators set, by queue.
SELECT q.name AS queue, extract(epoch FROM q.age_after)::float8 AS after, q.age_step AS step, q.age_most AS most
FROM tandem.queue AS q WHERE q.age_after IS NOT NULL ORDER BY q.name
