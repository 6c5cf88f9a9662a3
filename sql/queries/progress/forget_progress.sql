-- Forgets the progress of jobs that ended longer ago than the retention, or are gone.
DELETE FROM tandem.progress AS p
WHERE p.updated_at < (SELECT tandem.clock()) - %(retention)s::interval
  AND NOT EXISTS (SELECT FROM tandem.lease AS l WHERE l.job_id = p.job_id)
