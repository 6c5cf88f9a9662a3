"""The core queue, in reading order: job, enqueue, wake, claim, lease, finish, retry, schedule, admin, store."""
