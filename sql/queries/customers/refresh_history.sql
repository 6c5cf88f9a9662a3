-- Counts again how many jobs of the last days ended and how many of them succeeded, for the next page of customers.
-- Cancelled jobs say nothing about success. Answers the page's last customer, its size, and how many changed.
WITH page AS MATERIALIZED (
    SELECT c.customer_id FROM public.customers AS c WHERE c.customer_id > %(after)s ORDER BY c.customer_id LIMIT %(most)s
), found AS MATERIALIZED (
    SELECT p.customer_id, (count(*) FILTER (WHERE j.outcome = 'SUCCEEDED'))::integer AS succeeded, count(j.job_id)::integer AS ended
    FROM page AS p
    LEFT JOIN public.customer_jobs AS j ON j.customer_id = p.customer_id AND j.outcome IN ('SUCCEEDED', 'DEAD')
        AND j.ended_at > tandem.clock() - %(days)s::integer * interval '1 day'
    GROUP BY p.customer_id
), changed AS (
    UPDATE public.customers AS c SET recent_succeeded = f.succeeded, recent_ended = f.ended
    FROM found AS f
    WHERE c.customer_id = f.customer_id AND (c.recent_succeeded, c.recent_ended) IS DISTINCT FROM (f.succeeded, f.ended)
    RETURNING 1
)
SELECT coalesce(max(p.customer_id), '') AS last, count(*) AS seen, (SELECT count(*) FROM changed) AS changed FROM page AS p
