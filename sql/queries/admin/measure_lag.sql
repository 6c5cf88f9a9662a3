-- How late the sweep is: seconds since the earliest lease expired and since the earliest scheduled job was due (0 when
-- none is overdue), and how many dead letters are kept, counted up to `most`.
SELECT greatest(0, coalesce(extract(epoch FROM c.at - (SELECT min(l.expires_at) FROM tandem.lease AS l)), 0))::float8 AS rescue_seconds,
       greatest(0, coalesce(extract(epoch FROM c.at - (SELECT min(s.next_attempt_at) FROM tandem.scheduled AS s)), 0))::float8
           AS promote_seconds,
       (SELECT count(*) FROM (SELECT FROM tandem.done AS d WHERE d.outcome = 'DEAD' LIMIT %(most)s) AS upto) AS dead_letters
FROM (SELECT tandem.clock() AS at) AS c
