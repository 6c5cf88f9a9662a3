-- The first statement of job.transaction(): proves the lease and keeps rescue away until the commit, while
-- heartbeats still pass (KEY SHARE). No row: the lease is lost and the transaction must not go on.
SELECT l.attempt, current_setting('transaction_isolation') AS isolation
FROM tandem.lease AS l WHERE l.job_id = %(job_id)s AND l.token = %(token)s
FOR KEY SHARE
