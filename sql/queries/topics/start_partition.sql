-- Lets positions go on at the beginning of partition `number`, unless they are there already: never backwards.
SELECT setval('tandem.message_position', %(number)s * 1000000000, true) AS place
FROM tandem.message_position AS s WHERE s.last_value < %(number)s * 1000000000
