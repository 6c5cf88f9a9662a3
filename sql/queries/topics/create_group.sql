-- Makes a group unless it is there; answers its id.
SELECT tandem.create_topic_group(%(topic)s, %(group)s, %(first)s, %(max_attempts)s, %(retry_delay_ms)s, %(backoff)s, %(ordered)s, %(by)s,
                                 %(dead_head)s) AS id
