-- Touches the next `most` keys behind `after` (queue, key) that have jobs in blocked and are not in line: no turn, or one that
-- neither may go on nor is parked, with nothing running. It should find none. Answers the last key looked at, and how many.
WITH RECURSIVE place AS (
    (SELECT b.queue, b.partition_key, b.lane, b.band, b.pos, 1 AS nth FROM tandem.blocked AS b
     WHERE (b.queue, b.partition_key) > (%(queue)s::text, %(key)s::text) ORDER BY b.queue, b.partition_key LIMIT 1)
    UNION ALL
    SELECT n.queue, n.partition_key, n.lane, n.band, n.pos, p.nth + 1 FROM place AS p CROSS JOIN LATERAL (
        SELECT b.queue, b.partition_key, b.lane, b.band, b.pos FROM tandem.blocked AS b
        WHERE (b.queue, b.partition_key) > (p.queue, p.partition_key) ORDER BY b.queue, b.partition_key LIMIT 1) AS n
    WHERE p.nth < %(most)s
), lost AS (
    SELECT p.queue, p.partition_key, p.band, p.pos FROM place AS p
    LEFT JOIN LATERAL (
        SELECT t.eligible, t.due_at FROM tandem.turn AS t
        WHERE t.queue = p.queue AND t.partition_key = p.partition_key AND t.lane = p.lane ORDER BY t.seq DESC LIMIT 1) AS t ON true
    WHERE t.eligible IS NOT TRUE AND t.due_at IS NULL
      AND NOT EXISTS (SELECT FROM tandem.halted AS h WHERE h.queue = p.queue AND h.partition_key = p.partition_key)
      AND NOT EXISTS (SELECT FROM tandem.lease AS l
                      WHERE l.queue = p.queue AND l.partition_key = p.partition_key AND l.kind IS NOT NULL)
), told AS (
    INSERT INTO tandem.touch (queue, partition_key, band, first) SELECT l.queue, l.partition_key, l.band, l.pos FROM lost AS l
)
SELECT p.queue, p.partition_key, (SELECT count(*) FROM place) AS seen, (SELECT count(*) FROM lost) AS reminded
FROM place AS p ORDER BY p.nth DESC LIMIT 1
