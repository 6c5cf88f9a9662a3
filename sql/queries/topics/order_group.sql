-- Lets a group get its messages in order per key, or no longer. What waits follows with move_waiting.
SELECT tandem.order_topic_group(%(topic)s::text, %(group)s::text, %(ordered)s::boolean, %(dead_head)s::text)
