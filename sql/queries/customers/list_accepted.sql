-- A customer's jobs of a workflow, the newest first.
SELECT j.job_id, j.customer_id, j.tier, j.workflow, j.importance, j.overage, j.deadline, j.wait_until, j.priority, j.accepted_at,
       j.started_at, j.ended_at, j.outcome, j.error_class, j.body_hash
FROM public.customer_jobs AS j
WHERE j.customer_id = %(customer_id)s AND j.workflow = %(workflow)s AND j.job_id < %(before)s
ORDER BY j.job_id DESC LIMIT %(most)s
