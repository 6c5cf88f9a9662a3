-- Takes the workflow's turn for a canary when the last one was sent `every` seconds ago; job_id 0 until it has its job.
INSERT INTO public.workflow_health AS h (workflow, asked_at, job_id)
SELECT %(workflow)s, tandem.clock(), 0
ON CONFLICT (workflow) DO UPDATE SET asked_at = excluded.asked_at, job_id = 0
WHERE h.asked_at <= excluded.asked_at - %(every)s::float8 * interval '1 s'
RETURNING workflow
