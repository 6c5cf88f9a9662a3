-- Takes a grant back.
DELETE FROM tandem.topic_grant WHERE principal = %(principal)s AND operation = %(operation)s AND topic = %(topic)s
