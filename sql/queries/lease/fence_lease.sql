-- The first statement of job.transaction(): proves the lease and keeps rescue away until the commit, while
-- heartbeats still pass (KEY SHARE). Its commit is flushed whatever the session says. No row: the lease is lost.
SELECT l.attempt, current_setting('transaction_isolation') AS isolation, set_config('synchronous_commit', 'on', true) AS durable
FROM tandem.lease AS l WHERE l.job_id = %(job_id)s AND l.token = %(token)s
FOR KEY SHARE
