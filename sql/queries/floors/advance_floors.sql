-- Moves each lane's safe floor to its lowest ready row, or just past the settled sample. Lanes without a floor start
-- at zero; lanes are the declared queues times the ten priorities.
WITH lane AS MATERIALIZED (
    SELECT q.name AS queue, p.priority::smallint AS priority,
           coalesce((SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = q.name AND f.priority = p.priority), 0) AS floor
    FROM tandem.queue AS q CROSS JOIN generate_series(0, 9) AS p(priority)
), target AS MATERIALIZED (
    SELECT l.queue, l.priority, l.floor, least(coalesce(
        (SELECT min(r.pos) FROM tandem.ready AS r WHERE r.queue = l.queue AND r.priority = l.priority AND r.pos >= l.floor),
        %(settled)s::bigint + 1), %(settled)s::bigint + 1) AS next
    FROM lane AS l
), moved AS (
    INSERT INTO tandem.lane_floor (queue, priority, floor)
    SELECT t.queue, t.priority, t.next FROM target AS t WHERE t.next > t.floor
    ON CONFLICT DO NOTHING
    RETURNING queue, priority, floor
), swept AS (
    DELETE FROM tandem.lane_floor AS f USING target AS t
    WHERE f.queue = t.queue AND f.priority = t.priority AND f.floor = t.floor AND t.next > t.floor
)
SELECT count(*) AS moved FROM moved
