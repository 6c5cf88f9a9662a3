-- Forgets a schedule. Its jobs stay, and so do the rows of its ticks: one never fires twice under a name.
DELETE FROM tandem.schedule AS s WHERE s.name = %(name)s RETURNING s.name
