-- Where do claims begin to read? One row per lane (queue and priority) that has a safe floor or ready jobs.
-- safe_floor: no ready job can be below it. lowest: the lowest position that is ready now. below: ready jobs below the
-- floor, must be 0. behind: positions given out since the floor, of all lanes together.
-- What to do: below > 0 is a bug: those jobs wait for ever; report it, then DELETE FROM tandem.lane_floor for the lane
-- and restart the workers. A floor that stays put while `lowest` moves: nobody sweeps, or an old transaction
-- (horizon.sql) holds the floors. A lane without a floor: its queue is not declared, no worker has served it yet.
WITH RECURSIVE lane AS (
    (SELECT queue, priority FROM tandem.ready ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT n.queue, n.priority FROM lane AS l CROSS JOIN LATERAL (
        SELECT r.queue, r.priority FROM tandem.ready AS r WHERE (r.queue, r.priority) > (l.queue, l.priority)
        ORDER BY r.queue, r.priority LIMIT 1) AS n
), known AS (
    SELECT queue, priority FROM lane UNION SELECT DISTINCT queue, priority FROM tandem.lane_floor
), measured AS (
    SELECT k.queue, k.priority,
           (SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = k.queue AND f.priority = k.priority) AS safe_floor,
           (SELECT min(r.pos) FROM tandem.ready AS r WHERE r.queue = k.queue AND r.priority = k.priority) AS lowest
    FROM known AS k
)
SELECT m.queue, m.priority, m.safe_floor, m.lowest,
       (SELECT count(*) FROM tandem.ready AS r
        WHERE r.queue = m.queue AND r.priority = m.priority AND r.pos < m.safe_floor) AS below,
       (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM tandem.ready_position AS s)
       - coalesce(m.safe_floor, 1) + 1 AS behind
FROM measured AS m ORDER BY m.queue, m.priority DESC;
