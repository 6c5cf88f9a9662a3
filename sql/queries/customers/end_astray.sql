-- Ends those of the given open jobs, held by the caller, whose job of the queue has ended or is gone; what succeeded is
-- metered. A statement of its own: it sees what was committed before the rows were held.
WITH ended AS (
    UPDATE public.customer_jobs AS j
    SET outcome = coalesce(d.outcome, 'DEAD'), ended_at = coalesce(d.finished_at, tandem.clock()),
        started_at = coalesce(j.started_at, d.started_at),
        error_class = CASE WHEN d.job_id IS NULL THEN 'lost' ELSE d.error_class END
    FROM unnest(%(job_ids)s::bigint[]) AS u(job_id)
    LEFT JOIN tandem.done AS d ON d.job_id = u.job_id
    LEFT JOIN tandem.job AS q ON q.id = u.job_id
    WHERE j.job_id = u.job_id AND j.ended_at IS NULL AND (d.job_id IS NOT NULL OR q.id IS NULL)
    RETURNING j.job_id, j.customer_id, j.tier, j.workflow, j.notify, j.outcome, j.error_class, j.ended_at,
              d.token, d.attempt, d.started_at
), metered AS (
    INSERT INTO public.customer_usage (customer_id, job_id, token, what, attempt, tier, workflow, quantity, occurred_at)
    SELECT e.customer_id, e.job_id, e.token, 'run_ms', e.attempt, e.tier, e.workflow,
           greatest(0, round(extract(epoch FROM e.ended_at - coalesce(e.started_at, e.ended_at)) * 1000))::bigint, e.ended_at
    FROM ended AS e WHERE e.outcome = 'SUCCEEDED' AND e.token IS NOT NULL
    ON CONFLICT (job_id, token, what) DO NOTHING
)
SELECT e.job_id, e.customer_id, e.workflow, e.notify, e.outcome, e.error_class FROM ended AS e ORDER BY e.job_id
