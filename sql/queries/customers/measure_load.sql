-- For the gauges: the capacity, the jobs that count against it, and the workflows' health by name; counting ends at `most`.
SELECT c.capacity,
       (SELECT count(*) FROM (
           SELECT 1 FROM public.customer_jobs AS j WHERE j.ended_at IS NULL AND j.counted LIMIT %(most)s
       ) AS open)::integer AS load,
       (SELECT coalesce(jsonb_object_agg(h.workflow, h.error IS NULL AND coalesce(h.answered_at, h.asked_at)
               >= tandem.clock() - %(late)s::float8 * interval '1 s'), '{}')
        FROM public.workflow_health AS h) AS healthy
FROM public.customer_capacity AS c
