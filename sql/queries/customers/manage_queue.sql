-- Has the customers' queue managed, the first time that somebody needs it: limits, order of priority, fair shares. A key
-- of which nothing is known runs one job at once.
SELECT tandem.manage_queue('customers', key_limit => 1, rank_keys => true)
WHERE NOT EXISTS (SELECT FROM tandem.queue AS q WHERE q.name = 'customers' AND q.managed)
