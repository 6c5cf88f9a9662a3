-- Writes a customer whole; a change of tier goes into the history. The caller holds the row.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), before AS MATERIALIZED (
    SELECT c.customer_id, c.tier FROM public.customers AS c WHERE c.customer_id = %(customer_id)s
), changed AS (
    UPDATE public.customers AS c
    SET tier = %(tier)s, name = %(name)s, time_zone = %(time_zone)s, language = %(language)s, notify_by = %(notify_by)s,
        email = %(email)s, webhook_url = %(webhook_url)s, webhook_secret = coalesce(%(webhook_secret)s, c.webhook_secret),
        max_running = %(max_running)s, rate_per_minute = %(rate_per_minute)s, daily_quota = %(daily_quota)s,
        weight = %(weight)s, updated_at = k.at
    FROM clock AS k WHERE c.customer_id = %(customer_id)s
    RETURNING c.customer_id, c.tier, k.at
)
INSERT INTO public.customer_tier_history (customer_id, since, tier)
SELECT c.customer_id, c.at, c.tier FROM changed AS c JOIN before AS b USING (customer_id) WHERE b.tier <> c.tier
RETURNING customer_id
