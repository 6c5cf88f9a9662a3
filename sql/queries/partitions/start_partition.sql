-- Lets the ids go on at the beginning of partition `number`, unless they are there already: never backwards.
SELECT setval('tandem.job_id', %(number)s * 100000000, true) AS id
FROM tandem.job_id AS s WHERE s.last_value < %(number)s * 100000000
