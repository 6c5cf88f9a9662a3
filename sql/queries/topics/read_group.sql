-- One group of a topic with its rules.
SELECT g.id, t.id AS topic_id, t.name AS topic, g.name AS group_name, g.queue, g.max_attempts, g.retry_delay_ms, g.backoff, g.ordered, t.encrypted,
       coalesce(q.managed, false) AS managed
FROM tandem.topic_group AS g JOIN tandem.topic AS t ON t.id = g.topic_id LEFT JOIN tandem.queue AS q ON q.name = g.queue
WHERE t.name = %(topic)s AND g.name = %(group)s
