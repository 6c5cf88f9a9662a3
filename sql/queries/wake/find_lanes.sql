-- The wake lanes of these queues.
SELECT DISTINCT tandem.wake_lane(u.name) AS lane FROM unnest(%(queues)s::text[]) AS u(name) ORDER BY 1
