-- Writes an accepted job and its line of the ledger, beside the job itself.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), metered AS (
    INSERT INTO public.customer_usage (customer_id, job_id, token, what, attempt, tier, workflow, quantity, occurred_at)
    SELECT %(customer_id)s, %(job_id)s, 0, CASE WHEN %(overage)s THEN 'overage' ELSE 'job' END, 0, %(tier)s, %(workflow)s, 1, c.at
    FROM clock AS c
)
INSERT INTO public.customer_jobs
    (job_id, customer_id, tier, workflow, counted, overage, importance, revenue, light, deadline, wait_until, priority,
     notify, idempotency_key, body_hash, day, accepted_at)
SELECT %(job_id)s, %(customer_id)s, %(tier)s, %(workflow)s, %(counted)s, %(overage)s, %(importance)s, %(revenue)s,
       %(light)s, %(deadline)s, %(wait_until)s::timestamptz, %(priority)s, %(notify)s, %(idempotency_key)s,
       %(body_hash)s, %(day)s, c.at
FROM clock AS c
RETURNING job_id, customer_id, tier, workflow, importance, overage, deadline, wait_until, priority, accepted_at,
       started_at, ended_at, outcome, error_class, body_hash
