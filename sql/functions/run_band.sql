-- tandem.run_band(mean, deviation): how many seconds one run takes: expected, and an 80 % band, log-normal. Internal: for the ETA.
CREATE OR REPLACE FUNCTION tandem.run_band(mean float8, deviation float8)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT mean, CASE WHEN mean > 0 THEN exp(ln(mean) - s2 / 2 - 1.2816 * sqrt(s2)) ELSE 0 END,
       CASE WHEN mean > 0 THEN exp(ln(mean) - s2 / 2 + 1.2816 * sqrt(s2)) ELSE 0 END
FROM (SELECT CASE WHEN mean > 0 THEN ln(1 + (deviation / mean) ^ 2) ELSE 0 END AS s2) AS a
$$;
