-- Notes that the process lives; for people only, leases never depend on it.
UPDATE tandem.worker SET seen_at = tandem.clock() WHERE id = %(id)s
