-- The earliest start deadline after `after`.
SELECT min(d.start_by) AS at FROM tandem.start_deadline AS d WHERE d.start_by > %(after)s::timestamptz
