-- The tier table, the highest first.
SELECT t.tier, t.rank, t.rate_per_minute, t.daily_quota, t.max_running, t.weight, t.bypasses_global, t.when_full,
       t.longest_wait, t.ageing_every, t.base_priority, t.billing, t.overage, t.tracking
FROM public.customer_tiers AS t ORDER BY t.rank DESC
