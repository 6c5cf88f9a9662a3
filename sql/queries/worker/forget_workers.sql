-- Forgets worker processes that ended, or were not seen, longer ago than the retention, and hold no lease.
DELETE FROM tandem.worker AS w
WHERE w.seen_at < (SELECT tandem.clock()) - %(retention)s::interval
  AND NOT EXISTS (SELECT FROM tandem.lease AS l WHERE l.worker = w.id)
