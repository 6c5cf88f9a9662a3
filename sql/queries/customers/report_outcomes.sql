-- How the jobs accepted in a month ended, by workflow; open ones have no outcome yet.
WITH bounds AS MATERIALIZED (
    SELECT %(month)s::date::timestamp AT TIME ZONE %(time_zone)s AS first,
           (%(month)s::date + interval '1 month')::timestamp AT TIME ZONE %(time_zone)s AS last
)
SELECT j.workflow, coalesce(j.outcome, 'OPEN') AS outcome, j.error_class, count(*)::integer AS jobs
FROM bounds AS b
JOIN public.customer_jobs AS j
    ON j.customer_id = %(customer_id)s AND j.accepted_at >= b.first AND j.accepted_at < b.last
GROUP BY j.workflow, coalesce(j.outcome, 'OPEN'), j.error_class
ORDER BY j.workflow, 2, j.error_class
