-- What a customer used in a month of its time zone, by day, workflow and what.
WITH bounds AS MATERIALIZED (
    SELECT %(month)s::date::timestamp AT TIME ZONE %(time_zone)s AS first,
           (%(month)s::date + interval '1 month')::timestamp AT TIME ZONE %(time_zone)s AS last
)
SELECT (u.occurred_at AT TIME ZONE %(time_zone)s)::date AS day, u.workflow, u.what, sum(u.quantity)::bigint AS quantity,
       count(*)::integer AS entries
FROM bounds AS b
JOIN public.customer_usage AS u ON u.customer_id = %(customer_id)s AND u.occurred_at >= b.first AND u.occurred_at < b.last
GROUP BY 1, u.workflow, u.what
