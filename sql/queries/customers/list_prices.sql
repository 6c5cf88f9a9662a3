-- Every version of every tier's prices, the newest of a tier first.
SELECT p.tier, p.version, p.valid_from, p.currency, p.monthly_fee, p.prices
FROM public.customer_price_lists AS p ORDER BY p.tier, p.version DESC
