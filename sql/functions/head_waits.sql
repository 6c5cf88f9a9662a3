-- tandem.head_waits(...): until when a key must wait (its rate; in an ordered queue its head's own delay), whether it stopped
-- behind a dead letter, and in an ordered queue its head's kind. Internal to admission, inlined there.
CREATE OR REPLACE FUNCTION tandem.head_waits(
    q tandem.queue, key text, lane_name text, heads bigint[], tat timestamptz, every interval, burst integer, at timestamptz
) RETURNS TABLE (due_at timestamptz, halted boolean, kind text)
LANGUAGE sql STABLE
AS $$
SELECT nullif(greatest(tat - (burst - 1) * every, h.not_before, at), at),
       q.ordered AND EXISTS (SELECT FROM tandem.halted AS s WHERE q.ordered AND s.queue = q.name AND s.partition_key = key), h.kind
FROM (SELECT 1) AS one LEFT JOIN LATERAL (
    SELECT b.not_before, (SELECT j.kind FROM tandem.job AS j WHERE j.id = b.job_id) AS kind FROM tandem.blocked AS b
    WHERE q.ordered AND key <> '' AND b.queue = q.name AND b.partition_key = key AND b.lane = lane_name AND b.band = 0
      AND b.pos = heads[1] LIMIT 1) AS h ON true  -- LIMIT: a plan of its own, which unordered queues do not enter
$$;
