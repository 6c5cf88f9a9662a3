-- Forgets ticks that fired longer ago than the retention, but for the last one of each schedule.
DELETE FROM tandem.schedule_tick AS t
WHERE t.fired_at < (SELECT tandem.clock()) - %(retention)s::interval
  AND t.tick < (SELECT max(l.tick) FROM tandem.schedule_tick AS l WHERE l.schedule = t.schedule)
