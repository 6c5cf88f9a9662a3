-- Dead letters of topics as messages, the latest first; a page begins behind (died_before, job_before).
SELECT d.job_id, t.name AS topic, g.name AS group_name, (j.payload ->> 'position')::bigint AS "position", j.event_id AS message_id,
       j.partition_key AS key, d.attempt AS attempts, d.error_class, d.reason, d.finished_at AS died_at,
       coalesce(j.payload -> 'payload', m.payload) AS payload, j.context AS headers
FROM tandem.topic_group AS g JOIN tandem.topic AS t ON t.id = g.topic_id JOIN tandem.job AS j ON j.queue = g.queue
JOIN tandem.done AS d ON d.job_id = j.id AND d.outcome = 'DEAD'
LEFT JOIN tandem.message AS m ON m.topic_id = t.id AND m."position" = (j.payload ->> 'position')::bigint
WHERE (d.finished_at, d.job_id) < (%(died_before)s::timestamptz, %(job_before)s::bigint)
  AND (%(topic)s::text IS NULL OR t.name = %(topic)s) AND (%(group)s::text IS NULL OR g.name = %(group)s)
ORDER BY d.finished_at DESC, d.job_id DESC LIMIT %(most)s
