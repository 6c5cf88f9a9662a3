-- Moves due jobs from `scheduled` to `ready`, or to `blocked` where their queue is managed, earliest first, in (after, now]; answers the wake lanes and the last time.
WITH due AS MATERIALIZED (
    SELECT s.ctid AS tid FROM tandem.scheduled AS s
    WHERE s.next_attempt_at > %(after)s AND s.next_attempt_at <= (SELECT tandem.clock())
    ORDER BY s.next_attempt_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM tandem.scheduled AS s USING due AS d WHERE s.ctid = d.tid
    RETURNING s.job_id, s.next_attempt_at, s.priority, s.attempt, s.crashes, s.suspect, s.queue, s.partition_key
), managed AS MATERIALIZED (
    SELECT ARRAY(SELECT q.name FROM tandem.queue AS q WHERE q.managed) AS queues
), back AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), job_id, next_attempt_at, priority, attempt, crashes, suspect, queue, partition_key
    FROM (SELECT job_id, next_attempt_at, priority, attempt, crashes, suspect, queue, partition_key
          FROM gone WHERE queue <> ALL ((SELECT m.queues FROM managed AS m)::text[]) ORDER BY next_attempt_at, job_id) AS g
), waits AS MATERIALIZED (
    SELECT tandem.block_jobs(array_agg(job_id), array_agg(queue), array_agg(partition_key), array_agg(priority), array_agg(attempt),
               array_agg(crashes), array_agg(suspect), array_agg(next_attempt_at), array_agg(NULL::timestamptz), true)
    FROM (SELECT job_id, next_attempt_at, priority, attempt, crashes, suspect, queue, partition_key
          FROM gone WHERE queue = ANY ((SELECT m.queues FROM managed AS m)::text[]) ORDER BY next_attempt_at, job_id) AS g
)
SELECT count(*) AS promoted, coalesce(array_agg(DISTINCT tandem.wake_lane(queue)), '{}') AS lanes,
       max(next_attempt_at) AS last_at
FROM gone CROSS JOIN waits
