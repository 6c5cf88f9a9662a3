-- The earliest due time after `after`.
SELECT min(s.next_attempt_at) AS at FROM tandem.scheduled AS s WHERE s.next_attempt_at > %(after)s
