-- The database-wide gauges: events that are PENDING, and those that even the fallback should have taken by now.
-- Both stop counting at `most`, so that a scrape stays cheap whatever has piled up.
SELECT (SELECT count(*) FROM (
            SELECT FROM public.conversation_events AS e WHERE e.status = 'PENDING' LIMIT %(most)s) AS p) AS pending,
       (SELECT count(*) FROM (
            SELECT FROM public.conversation_events AS e
            WHERE e.status = 'PENDING' AND e.next_attempt_at < (SELECT tandem.clock()) - %(grace)s::interval
            LIMIT %(most)s) AS m) AS missed
