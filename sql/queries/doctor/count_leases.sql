-- How many jobs are leased, how many of the leases have run out, and for how long the oldest of them has.
SELECT count(l.job_id) AS held, count(*) FILTER (WHERE l.expires_at <= c.at) AS overdue,
       max(c.at - l.expires_at) FILTER (WHERE l.expires_at <= c.at) AS lag
FROM (SELECT tandem.clock() AS at) AS c LEFT JOIN tandem.lease AS l ON true
