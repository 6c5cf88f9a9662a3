-- Gives waiting jobs another priority, each behind those that wait there already: a fresh position, so that no floor ever
-- has to go back. What a claim or a cancel has locked is left to it. Answers how many, and the wake lanes: a worker that
-- looked while a job was between two places found it in neither.
WITH wanted AS MATERIALIZED (
    SELECT u.job_id, u.priority FROM unnest(%(job_ids)s::bigint[], %(priorities)s::smallint[]) AS u(job_id, priority)
), found AS MATERIALIZED (
    SELECT r.ctid AS tid, r.priority AS before, w.priority FROM wanted AS w JOIN tandem.ready AS r ON r.job_id = w.job_id
    WHERE r.priority <> w.priority FOR UPDATE OF r SKIP LOCKED
), gone AS (
    DELETE FROM tandem.ready AS r USING found AS f WHERE r.ctid = f.tid
    RETURNING r.job_id, r.pos, r.ready_at, f.before, f.priority, r.attempt, r.crashes, r.suspect, r.queue, r.partition_key
), back AS (
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key
    FROM (SELECT job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key
          FROM gone ORDER BY before DESC, pos) AS g
    RETURNING queue
), held AS MATERIALIZED (
    SELECT b.ctid AS tid, b.band, b.pos, w.priority FROM wanted AS w JOIN tandem.blocked AS b ON b.job_id = w.job_id
    WHERE b.priority <> w.priority AND b.waiting_for = 'limit' FOR UPDATE OF b SKIP LOCKED
), placed AS MATERIALIZED (
    SELECT h.tid, h.priority, nextval('tandem.job_id') AS pos FROM (SELECT tid, priority FROM held ORDER BY band DESC, pos) AS h
), sorted AS (  -- in the common lane: admission hears of it there, and sorts kinds under a limit into their own again
    UPDATE tandem.blocked AS b SET band = p.priority, priority = p.priority, lane = '', pos = p.pos FROM placed AS p WHERE b.ctid = p.tid
    RETURNING b.queue, b.partition_key, b.band, b.pos
), told AS (
    INSERT INTO tandem.touch (queue, partition_key, band, first)
    SELECT s.queue, s.partition_key, s.band, min(s.pos) FROM sorted AS s GROUP BY s.queue, s.partition_key, s.band
), parked AS MATERIALIZED (
    SELECT s.ctid AS tid, w.priority FROM wanted AS w JOIN tandem.scheduled AS s ON s.job_id = w.job_id
    WHERE s.priority <> w.priority FOR UPDATE OF s SKIP LOCKED
), later AS (
    UPDATE tandem.scheduled AS s SET priority = p.priority FROM parked AS p WHERE s.ctid = p.tid RETURNING s.queue
)
SELECT count(*) AS moved, coalesce(array_agg(DISTINCT tandem.wake_lane(m.queue)) FILTER (WHERE m.now), '{}') AS lanes
FROM (SELECT b.queue, true AS now FROM back AS b UNION ALL SELECT s.queue, true FROM sorted AS s
      UNION ALL SELECT l.queue, false FROM later AS l) AS m
