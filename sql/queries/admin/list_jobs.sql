-- Jobs below the id `before`, newest first, filtered. Each place is read backwards by job id only as far as needed;
-- then the view tells the rest of the few that remain. A kind that hardly occurs makes it read far.
WITH place AS MATERIALIZED (
    (SELECT m.job_id FROM tandem.ready AS m JOIN tandem.job AS j ON j.id = m.job_id
     WHERE coalesce(%(status)s::text, 'PENDING') = 'PENDING' AND m.job_id < %(before)s::bigint
       AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
     ORDER BY m.job_id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT m.job_id FROM tandem.scheduled AS m JOIN tandem.job AS j ON j.id = m.job_id
     WHERE coalesce(%(status)s::text, 'PENDING') = 'PENDING' AND m.job_id < %(before)s::bigint
       AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
     ORDER BY m.job_id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT m.job_id FROM tandem.blocked AS m JOIN tandem.job AS j ON j.id = m.job_id
     WHERE coalesce(%(status)s::text, 'PENDING') = 'PENDING' AND m.job_id < %(before)s::bigint
       AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
     ORDER BY m.job_id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT m.job_id FROM tandem.dependent AS m JOIN tandem.job AS j ON j.id = m.job_id
     WHERE coalesce(%(status)s::text, 'PENDING') = 'PENDING' AND m.job_id < %(before)s::bigint
       AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
     ORDER BY m.job_id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT m.job_id FROM tandem.lease AS m JOIN tandem.job AS j ON j.id = m.job_id
     WHERE coalesce(%(status)s::text, 'RUNNING') = 'RUNNING' AND m.job_id < %(before)s::bigint
       AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
     ORDER BY m.job_id DESC LIMIT %(most)s)
    UNION ALL
    (SELECT m.job_id FROM tandem.done AS m JOIN tandem.job AS j ON j.id = m.job_id
     WHERE (%(status)s::text IS NULL OR m.outcome = %(status)s) AND m.job_id < %(before)s::bigint
       AND (%(queue)s::text IS NULL OR j.queue = %(queue)s) AND (%(kind)s::text IS NULL OR j.kind = %(kind)s)
     ORDER BY m.job_id DESC LIMIT %(most)s)
)
SELECT s.job_id, s.kind, s.queue, s.status, s.waiting_for, s.attempt, s.priority, s.partition_key, s.next_attempt_at,
       s.worker, s.started_at, s.expires_at, s.finished_at, s.error_class, s.reason, s.created_at, s.event_id
FROM (SELECT job_id FROM place ORDER BY job_id DESC LIMIT %(most)s) AS p
CROSS JOIN LATERAL (
    SELECT v.job_id, v.kind, v.queue, v.status, v.waiting_for, v.attempt, v.priority, v.partition_key, v.next_attempt_at,
           v.worker, v.started_at, v.expires_at, v.finished_at, v.error_class, v.reason, v.created_at, v.event_id
    FROM tandem.job_status AS v WHERE v.job_id = p.job_id OFFSET 0) AS s  -- OFFSET 0: probe per job, join nothing whole
ORDER BY s.job_id DESC
