-- What has become of some jobs.
SELECT s.job_id, s.kind, s.queue, s.status, s.attempt, s.next_attempt_at, d.result::text AS result, s.reason, a.message
FROM tandem.job_status AS s
LEFT JOIN tandem.done AS d ON d.job_id = s.job_id
LEFT JOIN LATERAL (
    SELECT t.message FROM tandem.attempt AS t WHERE t.job_id = s.job_id ORDER BY t.finished_at DESC LIMIT 1) AS a ON true
WHERE s.job_id = ANY (%(job_ids)s::bigint[])
