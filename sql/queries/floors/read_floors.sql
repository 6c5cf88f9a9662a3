-- The safe floors of these queues' lanes; a lane that has none yet is not answered.
SELECT l.queue, p.priority::smallint AS priority,
       (SELECT max(f.floor) FROM tandem.lane_floor AS f WHERE f.queue = l.queue AND f.priority = p.priority) AS floor
FROM unnest(%(queues)s::text[]) AS l(queue) CROSS JOIN generate_series(0, 9) AS p(priority)
