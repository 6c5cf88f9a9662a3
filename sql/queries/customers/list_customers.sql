-- Customers in the order of their ids, a page behind the last one.
SELECT c.customer_id, c.tier, c.name, c.time_zone, c.language, c.notify_by, c.email, c.webhook_url, c.max_running,
       c.rate_per_minute, c.daily_quota, c.weight, c.recent_succeeded, c.recent_ended, c.created_at, c.updated_at
FROM public.customers AS c
WHERE c.customer_id > %(after)s AND (%(tier)s::text IS NULL OR c.tier = %(tier)s)
ORDER BY c.customer_id LIMIT %(most)s
