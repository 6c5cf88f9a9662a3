-- Meters the failed attempts of a job that the queue has written down and the ledger does not know yet, in the
-- transaction that wrote them: a crash that the sweeper found out is metered like a failure that a worker reported.
INSERT INTO public.customer_usage (customer_id, job_id, token, what, attempt, tier, workflow, quantity, occurred_at)
SELECT j.customer_id, j.job_id, a.token, 'failed_ms', a.attempt, j.tier, j.workflow,
       greatest(0, round(extract(epoch FROM a.finished_at - coalesce(a.started_at, a.finished_at)) * 1000))::bigint, a.finished_at
FROM tandem.attempt AS a JOIN public.customer_jobs AS j ON j.job_id = a.job_id
WHERE a.job_id = %(job_id)s AND a.token IS NOT NULL AND a.error_class <> 'expired'  -- it never ran
ON CONFLICT (job_id, token, what) DO NOTHING
