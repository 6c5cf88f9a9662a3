-- What a customer used in a month of its time zone, by the version of the prices that was valid then.
WITH bounds AS MATERIALIZED (
    SELECT %(month)s::date::timestamp AT TIME ZONE %(time_zone)s AS first,
           (%(month)s::date + interval '1 month')::timestamp AT TIME ZONE %(time_zone)s AS last
)
SELECT u.what, u.tier, p.version, sum(u.quantity)::bigint AS quantity
FROM bounds AS b
JOIN public.customer_usage AS u
    ON u.customer_id = %(customer_id)s AND u.occurred_at >= b.first AND u.occurred_at < b.last AND u.what <> 'failed_ms'
CROSS JOIN LATERAL (
    SELECT l.version FROM public.customer_price_lists AS l
    WHERE l.tier = u.tier AND l.valid_from <= u.occurred_at ORDER BY l.valid_from DESC LIMIT 1
) AS p
GROUP BY u.what, u.tier, p.version
ORDER BY min(u.id)
