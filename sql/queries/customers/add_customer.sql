-- Makes a customer at first sight, with the beginning of its tier history; nothing when somebody was faster.
-- Answers nothing for a tier that does not exist.
WITH clock AS MATERIALIZED (SELECT tandem.clock() AS at), added AS (
    INSERT INTO public.customers (customer_id, tier, created_at, updated_at)
    SELECT %(customer_id)s, t.tier, c.at, c.at FROM public.customer_tiers AS t CROSS JOIN clock AS c WHERE t.tier = %(tier)s
    ON CONFLICT (customer_id) DO NOTHING
    RETURNING customer_id, tier, created_at
)
INSERT INTO public.customer_tier_history (customer_id, since, tier)
SELECT a.customer_id, a.created_at, a.tier FROM added AS a
RETURNING customer_id
