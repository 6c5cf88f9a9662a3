-- Counts one more job of the customer's day, unless the quota is used up and `blocked` says that it is a limit. Rolls
-- back with the job. Exact under any number of rivals: the row is locked by whoever counts.
WITH today AS MATERIALIZED (
    SELECT (k.at AT TIME ZONE %(time_zone)s)::date AS day, k.at FROM (SELECT tandem.clock() AS at) AS k
), counted AS (
    INSERT INTO public.customer_quota_days AS d (customer_id, day, accepted, overage)
    SELECT %(customer_id)s, t.day, 1, (1 > coalesce(%(quota)s::integer, 1))::integer FROM today AS t
    WHERE NOT %(blocked)s::boolean OR coalesce(%(quota)s::integer, 1) >= 1
    ON CONFLICT (customer_id, day) DO UPDATE
    SET accepted = d.accepted + 1,
        overage = d.overage + (d.accepted + 1 > coalesce(%(quota)s::integer, d.accepted + 1))::integer
    WHERE NOT %(blocked)s::boolean OR d.accepted < coalesce(%(quota)s::integer, d.accepted + 1)
    RETURNING d.accepted, d.overage
)
SELECT t.day, c.accepted, c.overage,
       extract(epoch FROM ((t.day + 1)::timestamp AT TIME ZONE %(time_zone)s) - t.at)::float8 AS resets_in, t.at
FROM today AS t LEFT JOIN counted AS c ON true
