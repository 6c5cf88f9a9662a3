-- The next page of accepted jobs that are open, held until the transaction ends. Those that are just being ended or
-- redriven are left out: they are in somebody's hands.
SELECT j.job_id FROM public.customer_jobs AS j
WHERE j.ended_at IS NULL AND j.job_id > %(after)s
ORDER BY j.job_id LIMIT %(most)s
FOR NO KEY UPDATE SKIP LOCKED
