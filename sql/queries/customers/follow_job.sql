-- Brings an accepted job in line with its job of the queue: ended (DEAD, CANCELLED), or open again.
UPDATE public.customer_jobs AS j
SET outcome = %(outcome)s, ended_at = CASE WHEN %(outcome)s::text IS NOT NULL THEN tandem.clock() END, error_class = %(error_class)s
WHERE j.job_id = %(job_id)s AND j.outcome IS DISTINCT FROM 'SUCCEEDED'
RETURNING j.customer_id, j.workflow, j.notify
