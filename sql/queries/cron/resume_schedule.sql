-- Lets ticks fire again from `next_tick_at` on: what passed while it was paused stays passed.
UPDATE tandem.schedule AS s SET paused_at = NULL, paused_by = NULL, next_tick_at = %(next_tick_at)s
WHERE s.name = %(name)s RETURNING s.name
