-- Ends an accepted job as SUCCEEDED and meters its attempt, in the transaction that finishes the job. What is metered
-- or ended already stays as it is. Answers whether and whom to tell.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), ended AS (
    UPDATE public.customer_jobs AS j
    SET outcome = 'SUCCEEDED', ended_at = c.at, error_class = NULL,
        started_at = coalesce(j.started_at, c.at - %(run_ms)s::bigint * interval '1 ms')
    FROM clock AS c
    WHERE j.job_id = %(job_id)s AND j.outcome IS NULL
    RETURNING j.job_id, j.customer_id, j.tier, j.workflow, j.notify, c.at
), metered AS (
    INSERT INTO public.customer_usage (customer_id, job_id, token, what, attempt, tier, workflow, quantity, occurred_at)
    SELECT e.customer_id, e.job_id, %(token)s, 'run_ms', %(attempt)s, e.tier, e.workflow, %(run_ms)s, e.at FROM ended AS e
    ON CONFLICT (job_id, token, what) DO NOTHING
)
SELECT e.customer_id, e.workflow, e.notify FROM ended AS e
