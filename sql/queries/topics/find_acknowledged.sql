-- Which of these (job, token) pairs ended as successes of this queue: the repeat of an ack whose answer was lost.
SELECT d.job_id
FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token)
JOIN tandem.done AS d ON d.job_id = u.job_id AND d.token = u.token AND d.outcome = 'SUCCEEDED'
JOIN tandem.job AS j ON j.id = d.job_id AND j.queue = %(queue)s
