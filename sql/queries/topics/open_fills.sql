-- Fills that have work to do, the oldest first.
SELECT f.id FROM tandem.topic_fill AS f WHERE f.finished_at IS NULL ORDER BY f.id
