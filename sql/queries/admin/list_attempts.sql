-- The tries of one job that failed, were rescued or cancelled, the first one first.
SELECT a.attempt, a.verdict, a.error_class, a.fingerprint, a.message, a.traceback, a.worker, w.name AS worker_name,
       a.started_at, a.finished_at
FROM tandem.attempt AS a LEFT JOIN tandem.worker AS w ON w.id = a.worker
WHERE a.job_id = %(job_id)s::bigint ORDER BY a.finished_at, a.attempt
