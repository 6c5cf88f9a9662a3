-- Counts again how many jobs of the last days ended and how many of them succeeded, for the customers that were looked at
-- longest ago. Cancelled jobs say nothing about success.
WITH found AS MATERIALIZED (
    SELECT c.customer_id, (count(*) FILTER (WHERE j.outcome = 'SUCCEEDED'))::integer AS succeeded, count(j.job_id)::integer AS ended
    FROM public.customers AS c
    LEFT JOIN public.customer_jobs AS j ON j.customer_id = c.customer_id AND j.outcome IN ('SUCCEEDED', 'DEAD')
        AND j.ended_at > tandem.clock() - %(days)s::integer * interval '1 day'
    GROUP BY c.customer_id LIMIT %(most)s
)
UPDATE public.customers AS c SET recent_succeeded = f.succeeded, recent_ended = f.ended
FROM found AS f
WHERE c.customer_id = f.customer_id AND (c.recent_succeeded, c.recent_ended) IS DISTINCT FROM (f.succeeded, f.ended)
