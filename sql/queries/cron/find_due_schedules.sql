-- Schedules whose next tick has come, the most overdue first, and the clock that says so.
SELECT s.name, s.cron, s.timezone, s.missed, s.next_tick_at, c.at
FROM tandem.schedule AS s CROSS JOIN (SELECT tandem.clock() AS at) AS c
WHERE s.paused_at IS NULL AND s.next_tick_at <= c.at ORDER BY s.next_tick_at, s.name
