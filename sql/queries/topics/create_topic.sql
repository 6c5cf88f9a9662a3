-- Makes a topic unless it is there; answers its id.
SELECT tandem.create_topic(%(name)s, make_interval(secs => %(retention)s), make_interval(secs => %(dedup_window)s), %(drop_unread)s,
                           %(encrypted)s, %(by)s) AS id
