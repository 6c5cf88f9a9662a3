-- Of the next `most` ready or blocked jobs behind the id `after`: the last one, how many, and those whose first try has not
-- started within the seconds of their kind.
WITH looked AS MATERIALIZED (
    SELECT w.job_id, w.since, w.attempt = 0 AND NOT w.suspect AS fresh FROM (
        (SELECT r.job_id, r.ready_at AS since, r.attempt, r.suspect FROM tandem.ready AS r
         WHERE r.job_id > %(after)s::bigint ORDER BY r.job_id LIMIT %(most)s)
        UNION ALL
        (SELECT b.job_id, b.blocked_at, b.attempt, b.suspect FROM tandem.blocked AS b
         WHERE b.job_id > %(after)s::bigint ORDER BY b.job_id LIMIT %(most)s)) AS w
    ORDER BY w.job_id LIMIT %(most)s
)
SELECT count(*) AS looked, max(l.job_id) AS last,
       coalesce(array_agg(l.job_id) FILTER (
           WHERE l.fresh AND l.since + k.seconds * interval '1 s' <= (SELECT tandem.clock())), '{}') AS stale
FROM looked AS l JOIN tandem.job AS j ON j.id = l.job_id
LEFT JOIN unnest(%(kinds)s::text[], %(seconds)s::float8[]) AS k(kind, seconds) ON k.kind = j.kind
