-- Drops one partition of a topic's log if its time has come.
SELECT tandem.drop_message_partition(%(topic_id)s, %(number)s) AS outcome
