-- Lets the ids go on at the beginning of partition `number`; ids are never given out twice, so it only moves forward.
SELECT setval('tandem.job_id', greatest(%(number)s * 100000000, s.last_value), true) AS id FROM tandem.job_id AS s
