-- The last canary of every workflow. Unhealthy: it failed, or no answer came for too long.
SELECT h.workflow,
       CASE WHEN h.error IS NOT NULL THEN false
            WHEN h.answered_at >= h.asked_at THEN true
            WHEN coalesce(h.answered_at, h.asked_at) < tandem.clock() - %(late)s::float8 * interval '1 s' THEN false
            WHEN h.answered_at IS NOT NULL THEN true
       END AS healthy, h.asked_at, h.answered_at, h.seconds
FROM public.workflow_health AS h ORDER BY h.workflow
