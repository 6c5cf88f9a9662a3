-- All there is to know about one job, but for its failed tries (list_attempts).
SELECT s.job_id, s.kind, s.queue, s.status, s.waiting_for, s.attempt, s.crashes, s.priority, s.partition_key,
       s.next_attempt_at, q.paused_at AS queue_paused_at, s.worker, w.name AS worker_name, s.started_at, s.expires_at,
       s.finished_at, s.error_class, d.fingerprint, s.reason, s.created_at, s.event_id, j.payload, j.policy, j.context,
       d.result, i.requested_at AS cancel_requested_at, i.requested_by AS cancel_requested_by, i.reason AS cancel_reason,
       p.percent AS progress_percent, p.stage AS progress_stage, p.updated_at AS progress_at
FROM tandem.job_status AS s
JOIN tandem.job AS j ON j.id = s.job_id
LEFT JOIN tandem.done AS d ON d.job_id = s.job_id
LEFT JOIN tandem.worker AS w ON w.id = s.worker
LEFT JOIN tandem.queue AS q ON q.name = s.queue
LEFT JOIN tandem.progress AS p ON p.job_id = s.job_id
LEFT JOIN tandem.cancel_intent AS i ON i.job_id = s.job_id
WHERE s.job_id = %(job_id)s::bigint
