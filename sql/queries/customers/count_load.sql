-- Running + waiting jobs that count against the capacity; counting ends at `most`. Derived from the jobs' own rows.
SELECT count(*)::integer FROM (
    SELECT 1 FROM public.customer_jobs AS j WHERE j.ended_at IS NULL AND j.counted LIMIT %(most)s
) AS load
