-- Drops one partition, its survivors kept.
SELECT tandem.drop_partition(%(number)s, %(survivors)s::bigint[]) AS survivors
