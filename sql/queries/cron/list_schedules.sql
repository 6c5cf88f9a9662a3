-- All schedules, or the one of that name, each with the job of its last tick.
SELECT s.name, s.cron, s.timezone, s.kind, s.queue, s.payload, s.priority, s.partition_key, s.missed, s.overlap, s.source,
       s.paused_at, s.paused_by, s.next_tick_at, s.last_tick_at, t.job_id AS last_job_id, v.status AS last_status, s.created_at
FROM tandem.schedule AS s
LEFT JOIN tandem.schedule_tick AS t ON t.schedule = s.name AND t.tick = s.last_tick_at
LEFT JOIN LATERAL (SELECT j.status FROM tandem.job_status AS j WHERE j.job_id = t.job_id) AS v ON true
WHERE %(name)s::text IS NULL OR s.name = %(name)s
ORDER BY s.name
