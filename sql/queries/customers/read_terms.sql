-- A customer with the tier that holds now.
SELECT c.customer_id, c.tier, c.name, c.time_zone, c.language, c.notify_by, c.email, c.webhook_url, c.max_running,
       c.rate_per_minute, c.daily_quota, c.weight, c.recent_succeeded, c.recent_ended, c.created_at, c.updated_at,
       t.tier, t.rank, t.rate_per_minute, t.daily_quota, t.max_running, t.weight, t.bypasses_global, t.when_full,
       t.longest_wait, t.ageing_every, t.base_priority, t.billing, t.overage, t.tracking
FROM public.customers AS c JOIN public.customer_tiers AS t ON t.tier = c.tier
WHERE c.customer_id = %(customer_id)s
