-- tandem.service_stats(queue): how long tries of a queue ran in the last ten minutes, by kind, in seconds; kind NULL is all of
-- them. `busy` is how many ran at once on average since the first sample of that time. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.service_stats(queue text)
RETURNS TABLE (kind text, tries bigint, mean float8, deviation float8, busy float8)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT s.kind, sum(s.tries)::bigint, sum(s.ran_ms) / sum(s.tries) / 1000,
       sqrt(greatest(0, sum(s.squares) / sum(s.tries) - (sum(s.ran_ms) / sum(s.tries)) ^ 2)) / 1000,
       sum(s.ran_ms) / 1000 / greatest(5, extract(epoch FROM max(c.at) - min(s.at))::float8 + 5)
FROM (SELECT tandem.clock() AS at) AS c
JOIN tandem.service_sample AS s ON s.queue = $1 AND s.at > c.at - interval '10 minutes' AND s.tries > 0
GROUP BY GROUPING SETS ((s.kind), ())
HAVING sum(s.tries) > 0
$$;
