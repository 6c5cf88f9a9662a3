-- Writes that a canary came through, or what it failed with. Jobs that are nobody's canary change nothing.
UPDATE public.workflow_health AS h
SET answered_at = CASE WHEN %(error)s::text IS NULL THEN k.at ELSE h.answered_at END,
    seconds = CASE WHEN %(error)s::text IS NULL THEN extract(epoch FROM k.at - h.asked_at) ELSE h.seconds END,
    failed_at = CASE WHEN %(error)s::text IS NOT NULL THEN k.at END, error = left(%(error)s::text, 500)
FROM (SELECT tandem.clock() AS at) AS k
WHERE h.job_id = %(job_id)s
