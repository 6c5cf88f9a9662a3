-- tandem.shared_band(expected, low, high, shared): the band of a wait as tandem.eta_band says it, wider where slots are shared under a
-- global limit or limits of kinds: who gets the next one also depends on what comes to the other keys, kinds and queues meanwhile.
-- Measured on scripts/limit_calibration.py: 0.4 of the wait as standard deviation more, log-normal. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.shared_band(expected float8, low float8, high float8, shared boolean)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT $1, CASE WHEN $4 AND $2 > 0 THEN exp(ln($1) - b.s2 / 2 - 1.2816 * sqrt(b.s2)) ELSE $2 END,
       CASE WHEN $4 AND $2 > 0 THEN exp(ln($1) - b.s2 / 2 + 1.2816 * sqrt(b.s2)) ELSE $3 END
FROM (SELECT CASE WHEN $2 > 0 THEN (ln($3 / $2) / 2.5631) ^ 2 + ln(1 + 0.4 ^ 2) END AS s2) AS b
$$;
