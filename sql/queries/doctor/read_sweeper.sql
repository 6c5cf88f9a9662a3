-- Who leads the sweep now, and since when; no row: nobody.
SELECT coalesce(w.name, l.holder::text) AS holder, tandem.clock() - l.acquired_at AS leads_for
FROM tandem.leader AS l LEFT JOIN tandem.worker AS w ON w.id = l.holder
WHERE l.name = 'sweeper' AND l.expires_at > (SELECT tandem.clock())
