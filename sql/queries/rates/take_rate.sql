-- Takes from a rate: whether it was allowed, now, and when the rate is full again.
SELECT t.allowed, t.at, t.tat FROM tandem.take_rate(%(name)s::text, %(every)s::interval, %(burst)s::integer, %(cost)s::integer) AS t
