-- Whose fee a month costs: the tier that the customer had at the month's end (or has now), and of its prices the version
-- that was valid when the month began. Nothing for a month before the customer was there.
WITH bounds AS MATERIALIZED (
    SELECT %(month)s::date::timestamp AT TIME ZONE %(time_zone)s AS first,
           (%(month)s::date + interval '1 month')::timestamp AT TIME ZONE %(time_zone)s AS last
)
SELECT h.tier, p.version
FROM bounds AS b
CROSS JOIN LATERAL (
    SELECT t.tier FROM public.customer_tier_history AS t
    WHERE t.customer_id = %(customer_id)s AND t.since < b.last ORDER BY t.since DESC LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT l.version FROM public.customer_price_lists AS l
    WHERE l.tier = h.tier AND l.valid_from <= b.first ORDER BY l.valid_from DESC LIMIT 1
) AS p
WHERE b.first <= tandem.clock()
