-- Queues in which jobs wait, or run, as if they were managed the other way: move_waiting puts that right.
SELECT q.name FROM tandem.queue AS q
WHERE CASE WHEN q.managed THEN EXISTS (SELECT FROM tandem.ready AS r WHERE r.queue = q.name)
                               OR EXISTS (SELECT FROM tandem.lease AS l WHERE l.queue = q.name AND l.slot IS NULL)
           ELSE EXISTS (SELECT FROM tandem.blocked AS b WHERE b.queue = q.name) END
