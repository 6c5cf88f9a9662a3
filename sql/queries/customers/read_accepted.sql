-- A customer's own job; nothing for a job of somebody else.
SELECT j.job_id, j.customer_id, j.tier, j.workflow, j.importance, j.overage, j.deadline, j.wait_until, j.priority, j.accepted_at,
       j.started_at, j.ended_at, j.outcome, j.error_class, j.body_hash
FROM public.customer_jobs AS j
WHERE j.customer_id = %(customer_id)s AND j.job_id = %(job_id)s
