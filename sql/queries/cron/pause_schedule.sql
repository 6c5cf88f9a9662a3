-- Lets no tick fire; the first one who paused it stays noted.
UPDATE tandem.schedule AS s
SET paused_by = CASE WHEN s.paused_at IS NULL THEN %(by)s ELSE s.paused_by END, paused_at = coalesce(s.paused_at, tandem.clock())
WHERE s.name = %(name)s RETURNING s.name
