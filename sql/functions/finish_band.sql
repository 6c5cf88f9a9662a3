-- tandem.finish_band(wait, low, high, mean, deviation): seconds until the end of a job that waits as tandem.eta_band says and then
-- runs so long: expected, and an 80 % band. Internal: for the ETA. Wait and run are independent, so their variances add; the sum
-- is taken as log-normal (Fenton and Wilkinson, 1960). The wait's variance is that of its band; 2.5631 is twice 1.2816.
CREATE OR REPLACE FUNCTION tandem.finish_band(wait float8, wait_low float8, wait_high float8, mean float8, deviation float8)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT b.expected, b.low, b.high
FROM tandem.run_band(wait + mean, sqrt(deviation ^ 2 + CASE WHEN wait_low > 0
     THEN (wait ^ 2 * (exp((ln(wait_high / wait_low) / 2.5631) ^ 2) - 1)) ELSE 0 END)) AS b
$$;
