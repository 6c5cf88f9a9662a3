-- Gives a leadership up at once, if it is still ours.
DELETE FROM tandem.leader WHERE name = %(name)s AND holder = %(holder)s RETURNING name
