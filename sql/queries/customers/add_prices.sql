-- Adds the next version of a tier's prices. Only for the future: what was used keeps its price. Nothing is answered
-- for a tier that is not there, or a time that is past or before the version that comes last.
INSERT INTO public.customer_price_lists (tier, version, valid_from, currency, monthly_fee, prices)
SELECT t.tier, coalesce(max(p.version), 0) + 1, coalesce(%(valid_from)s::timestamptz, tandem.clock()), %(currency)s, %(monthly_fee)s,
       %(prices)s::jsonb
FROM public.customer_tiers AS t LEFT JOIN public.customer_price_lists AS p ON p.tier = t.tier
WHERE t.tier = %(tier)s
GROUP BY t.tier
HAVING coalesce(%(valid_from)s::timestamptz, tandem.clock()) > coalesce(max(p.valid_from), '-infinity')
   AND coalesce(%(valid_from)s::timestamptz, tandem.clock()) >= tandem.clock() - interval '1 min'
RETURNING version
