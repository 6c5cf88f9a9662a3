-- Moves the safe floor of each managed queue's touches (lane -1) to the lowest one, or just past the settled sample.
WITH lane AS MATERIALIZED (
    SELECT q.name AS queue,
           coalesce((SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = q.name AND f.priority = -1), 0) AS floor
    FROM tandem.queue AS q WHERE q.managed
), target AS MATERIALIZED (
    SELECT l.queue, l.floor, least(coalesce(
        (SELECT min(t.pos) FROM tandem.touch AS t WHERE t.queue = l.queue AND t.pos >= l.floor), %(settled)s::bigint + 1),
        %(settled)s::bigint + 1) AS next
    FROM lane AS l
), moved AS (
    INSERT INTO tandem.lane_floor (queue, priority, floor)
    SELECT t.queue, -1, t.next FROM target AS t WHERE t.next > t.floor
    ON CONFLICT DO NOTHING
    RETURNING queue
), swept AS (
    DELETE FROM tandem.lane_floor AS f USING target AS t
    WHERE f.queue = t.queue AND f.priority = -1 AND f.floor = t.floor AND t.next > t.floor
)
SELECT count(*) AS moved FROM moved
