-- Writes which job is a workflow's canary.
UPDATE public.workflow_health AS h SET job_id = %(job_id)s WHERE h.workflow = %(workflow)s
