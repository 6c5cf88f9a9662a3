-- The ids that must outlive a partition, NULL while it is too young or has too many of them.
SELECT tandem.partition_survivors(%(number)s, tandem.clock() - %(retention)s::interval, %(most)s) AS survivors
