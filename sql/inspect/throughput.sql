-- How many jobs ended in each of the last 30 minutes? The newest minute first; it is not over yet.
-- succeeded, dead, cancelled: by outcome. per_second: all of them together.
-- What to do: compare with queue_depth.sql: ready grows while this falls: running.sql and slowest_kinds.sql.
-- Reads all of done once (some 0.1 s per million finished jobs).
WITH clock AS MATERIALIZED (
    SELECT tandem.clock() AS at
), ended AS (
    SELECT date_trunc('minute', finished_at) AS minute, count(*) FILTER (WHERE outcome = 'SUCCEEDED') AS succeeded,
           count(*) FILTER (WHERE outcome = 'DEAD') AS dead, count(*) FILTER (WHERE outcome = 'CANCELLED') AS cancelled
    FROM tandem.done WHERE finished_at >= date_trunc('minute', (SELECT at FROM clock)) - interval '29 minutes'
    GROUP BY 1
)
SELECT m.minute, coalesce(e.succeeded, 0) AS succeeded, coalesce(e.dead, 0) AS dead, coalesce(e.cancelled, 0) AS cancelled,
       round(coalesce(e.succeeded + e.dead + e.cancelled, 0)
             / least(60, greatest(1, extract(epoch FROM c.at - m.minute)))::numeric, 1) AS per_second
FROM clock AS c
CROSS JOIN LATERAL generate_series(date_trunc('minute', c.at) - interval '29 minutes', date_trunc('minute', c.at),
                                   interval '1 minute') AS m(minute)
LEFT JOIN ended AS e USING (minute)
ORDER BY m.minute DESC;
