-- Makes the jobs of ticks that have come, exactly once, and moves the schedule on.
SELECT f.tick, f.job_id
FROM tandem.fire_schedule(%(name)s, %(expected)s::timestamptz, %(ticks)s::timestamptz[], %(next)s::timestamptz) AS f
