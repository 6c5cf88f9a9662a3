-- The earliest expiry after `after`: nothing below it is worth looking at again once its transactions have settled.
SELECT min(l.expires_at) AS at FROM tandem.lease AS l WHERE l.expires_at > %(after)s
