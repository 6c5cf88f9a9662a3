-- Notes a clean stop.
UPDATE tandem.worker SET seen_at = tandem.clock(), stopped_at = tandem.clock() WHERE id = %(id)s
