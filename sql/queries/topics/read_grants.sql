-- What a principal may do on which topics.
SELECT g.operation, g.topic FROM tandem.topic_grant AS g WHERE g.principal = %(principal)s
