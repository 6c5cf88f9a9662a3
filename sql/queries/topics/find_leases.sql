-- Which of these (job, token) pairs are leases of this queue, held until the transaction ends. One by one, whatever the
-- statistics say.
SELECT l.job_id, l.token, l.attempt, l.crashes, l.claimed_at, j.kind, j.event_id, (j.payload ->> 'position')::bigint AS "position"
FROM (SELECT u.job_id, u.token FROM unnest(%(job_ids)s::bigint[], %(tokens)s::bigint[]) AS u(job_id, token) ORDER BY u.job_id) AS i
CROSS JOIN LATERAL (
    SELECT o.job_id, o.token, o.attempt, o.crashes, o.claimed_at FROM tandem.lease AS o
    WHERE o.job_id = i.job_id AND o.token = i.token AND o.queue = %(queue)s FOR UPDATE OF o) AS l
JOIN tandem.job AS j ON j.id = l.job_id
ORDER BY l.job_id
