-- Writes a tier whole; makes it when it is new.
INSERT INTO public.customer_tiers AS t
    (tier, rank, rate_per_minute, daily_quota, max_running, weight, bypasses_global, when_full, longest_wait, ageing_every,
     base_priority, billing, overage, tracking, updated_at)
VALUES (%(tier)s, %(rank)s, %(rate_per_minute)s, %(daily_quota)s, %(max_running)s, %(weight)s, %(bypasses_global)s,
        %(when_full)s, %(longest_wait)s, %(ageing_every)s, %(base_priority)s, %(billing)s, %(overage)s, %(tracking)s,
        tandem.clock())
ON CONFLICT (tier) DO UPDATE
SET rank = excluded.rank, rate_per_minute = excluded.rate_per_minute, daily_quota = excluded.daily_quota,
    max_running = excluded.max_running, weight = excluded.weight, bypasses_global = excluded.bypasses_global,
    when_full = excluded.when_full, longest_wait = excluded.longest_wait, ageing_every = excluded.ageing_every,
    base_priority = excluded.base_priority, billing = excluded.billing, overage = excluded.overage,
    tracking = excluded.tracking, updated_at = excluded.updated_at
