-- Who sleeps until a notification wakes it, and on which wake lanes? One row per session and lane.
-- A worker that has nothing to do holds its lanes' advisory lock shared; a commit that enqueues sees that and notifies.
-- queues: the declared queues on that lane (several may share one). listens: how long the session has been idle.
-- What to do: jobs wait in a queue (due_not_claimed.sql) and its lane has no sleeper: the workers are busy, poll, or
-- their LISTEN connection is down (their log). A sleeper and waiting jobs at once for more than 2 s: report it.
SELECT l.objid AS lane, l.pid, a.application_name AS session, a.client_addr AS host,
       date_trunc('second', clock_timestamp() - a.state_change) AS listens,
       (SELECT string_agg(q.name, ', ' ORDER BY q.name) FROM tandem.queue AS q
        WHERE tandem.wake_lane(q.name) = l.objid::integer) AS queues
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = 1413565006 AND l.objsubid = 2 AND l.objid < 32
  AND l.mode = 'ShareLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.objid, l.pid;
