-- A sleeper takes its announcements back.
SELECT count(pg_advisory_unlock_shared(1413565006, u.lane)) AS lanes FROM unnest(%(lanes)s::integer[]) AS u(lane)
