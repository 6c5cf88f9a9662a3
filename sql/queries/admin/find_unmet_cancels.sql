-- Jobs that were asked to be cancelled and are not running: they wait, or they ended by themselves.
SELECT i.job_id FROM tandem.cancel_intent AS i
WHERE NOT EXISTS (SELECT FROM tandem.lease AS l WHERE l.job_id = i.job_id)
ORDER BY i.job_id LIMIT %(most)s
