-- Wakes two of those who sleep on each queue, this session not; runs after the commit.
SELECT tandem.wake_queues(%(queues)s::text[]) AS notified
