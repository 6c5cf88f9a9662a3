-- Which of these (job, token) pairs are already in `done`: asked when a COMMIT's answer was lost.
SELECT d.job_id
FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token)
JOIN tandem.done AS d ON d.job_id = u.job_id AND d.token = u.token
