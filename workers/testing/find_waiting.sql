-- Jobs that wait, in the order in which they were enqueued.
SELECT j.id, j.kind, w.queue, w.priority, j.payload::text AS payload, w.run_at, j.partition_key, j.event_id::text AS event_id,
       j.context::text AS context, tandem.clock() AS now
FROM (
    SELECT r.job_id, r.queue, r.priority, NULL::timestamptz AS run_at FROM tandem.ready AS r
    UNION ALL SELECT s.job_id, s.queue, s.priority, s.next_attempt_at FROM tandem.scheduled AS s
    UNION ALL SELECT d.job_id, d.queue, d.priority, d.run_at FROM tandem.dependent AS d
    UNION ALL SELECT b.job_id, b.queue, b.priority, NULL FROM tandem.blocked AS b
) AS w JOIN tandem.job AS j ON j.id = w.job_id
ORDER BY j.id
