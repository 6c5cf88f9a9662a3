-- Makes and attaches one partition of a topic's log.
SELECT tandem.add_message_partition(%(topic_id)s, %(number)s) AS added
