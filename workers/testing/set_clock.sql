-- Moves the queue's clock for this session.
SELECT set_config('tandem.clock_offset', %(setting)s::text, false) AS setting
