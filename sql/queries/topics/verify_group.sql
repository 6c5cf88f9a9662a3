-- The reconciliation of one group: every message it must get, by where its deliveries stand. A message counts once:
-- waiting if any delivery of it waits or runs, else dead, else acknowledged, else skipped by a seek. What is published
-- and has no delivery is missing, or still to be filled in. Looks at messages younger than the oldest job that is kept.
WITH g AS MATERIALIZED (
    SELECT g.id, g.topic_id, g.queue, g.version, g.start_position FROM tandem.topic_group AS g JOIN tandem.topic AS t ON t.id = g.topic_id
    WHERE t.name = %(topic)s AND g.name = %(group)s
), delivery AS MATERIALIZED (
    SELECT (j.payload ->> 'position')::bigint AS place,
           bool_or(d.job_id IS NULL) AS waiting, bool_or(d.outcome = 'DEAD') AS dead, bool_or(d.outcome = 'SUCCEEDED') AS acknowledged
    FROM g JOIN tandem.job AS j ON j.queue = g.queue LEFT JOIN tandem.done AS d ON d.job_id = j.id GROUP BY 1
), kept AS MATERIALIZED (
    SELECT coalesce((SELECT j.created_at FROM tandem.job AS j ORDER BY j.id LIMIT 1), '-infinity') AS since
), fill AS MATERIALIZED (
    SELECT f.id, f.cursor, f.to_position, f.history_done, f.snapshot FROM g JOIN tandem.topic_fill AS f ON f.group_id = g.id AND f.finished_at IS NULL
), message AS (
    SELECT m."position" AS place, EXISTS (SELECT FROM fill AS f WHERE m."position" > f.cursor OR f.history_done AND m.version < g.version) AS filling
    FROM g JOIN tandem.message AS m ON m.topic_id = g.topic_id CROSS JOIN kept AS k
    WHERE (m.version >= g.version OR m."position" >= g.start_position) AND m.published_at >= k.since
)
SELECT count(*) AS published, count(*) FILTER (WHERE d.waiting) AS waiting,
       count(*) FILTER (WHERE NOT d.waiting AND d.dead) AS dead,
       count(*) FILTER (WHERE NOT d.waiting AND NOT coalesce(d.dead, false) AND d.acknowledged) AS acknowledged,
       count(*) FILTER (WHERE NOT d.waiting AND NOT coalesce(d.dead, false) AND NOT coalesce(d.acknowledged, false)) AS skipped,
       count(*) FILTER (WHERE d.place IS NULL AND m.filling) AS filling,
       count(*) FILTER (WHERE d.place IS NULL AND NOT m.filling) AS missing,
       (array_agg(m.place ORDER BY m.place) FILTER (WHERE d.place IS NULL AND NOT m.filling))[1:10] AS missing_positions
FROM message AS m LEFT JOIN delivery AS d ON d.place = m.place
