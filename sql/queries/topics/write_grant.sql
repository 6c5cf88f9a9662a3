-- Lets a principal publish to a topic or consume from it.
INSERT INTO tandem.topic_grant (principal, operation, topic, granted_at, granted_by)
VALUES (%(principal)s, %(operation)s, %(topic)s, tandem.clock(), %(by)s) ON CONFLICT DO NOTHING
