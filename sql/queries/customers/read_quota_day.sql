-- How much of the customer's present day is used.
WITH today AS MATERIALIZED (
    SELECT (k.at AT TIME ZONE %(time_zone)s)::date AS day, k.at FROM (SELECT tandem.clock() AS at) AS k
)
SELECT t.day, coalesce(d.accepted, 0) AS accepted, coalesce(d.overage, 0) AS overage,
       extract(epoch FROM ((t.day + 1)::timestamp AT TIME ZONE %(time_zone)s) - t.at)::float8 AS resets_in, t.at
FROM today AS t
LEFT JOIN public.customer_quota_days AS d ON d.customer_id = %(customer_id)s AND d.day = t.day
