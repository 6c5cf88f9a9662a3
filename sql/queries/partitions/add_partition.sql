-- Makes and attaches one partition of job, done and attempt.
SELECT tandem.add_partition(%(number)s) AS added
