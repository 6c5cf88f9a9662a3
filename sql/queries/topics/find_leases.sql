-- Which of these (job, token) pairs are leases of this queue, held until the transaction ends.
SELECT l.job_id, l.token, l.attempt, l.crashes, l.claimed_at, j.kind, j.event_id, (j.payload ->> 'position')::bigint AS "position"
FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token)
JOIN tandem.lease AS l ON l.job_id = u.job_id AND l.token = u.token AND l.queue = %(queue)s
JOIN tandem.job AS j ON j.id = l.job_id
ORDER BY l.job_id FOR UPDATE OF l
