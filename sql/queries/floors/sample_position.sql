-- The position sequence and the clock; read_snapshot must follow as a statement of its own: its boundary is drawn
-- later, so every position up to this one belongs to a transaction below that boundary.
SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END AS position, tandem.clock() AS at FROM tandem.ready_position AS s
