-- The real time, the queue's time, and how this session has moved it.
SELECT clock_timestamp() AS real, tandem.clock() AS moved, coalesce(current_setting('tandem.clock_offset', true), '') AS setting
