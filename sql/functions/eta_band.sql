-- tandem.eta_band(starts, servers, mean, deviation, tries): seconds until so many jobs have been started by `servers` at once, all
-- of them busy, from the mean and standard deviation of `tries` runs: expected, and an 80 % band. Internal: for the ETA.
-- The sum of many runs is nearly normal (central limit theorem); so is the error of the mean. Taken as log-normal, so that
-- no bound is below zero. The servers are somewhere within their runs: even ones end half a run sooner than after a whole one.
-- How many they end by then varies as in an equilibrium renewal process (Cox, Renewal Theory, 1962): cv^2 for each, and for each
-- server 1/6 + cv^4/2 - skewness/3, here of log-normal runs; uneven runs of many servers at the least like chance (Poisson).
-- 1.2816: the normal 90th percentile.
CREATE OR REPLACE FUNCTION tandem.eta_band(starts float8, servers float8, mean float8, deviation float8, tries bigint)
RETURNS TABLE (expected float8, low float8, high float8)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT b.wait, CASE WHEN b.wait > 0 THEN exp(ln(b.wait) - b.s2 / 2 - 1.2816 * sqrt(b.s2)) ELSE 0 END,
       CASE WHEN b.wait > 0 THEN exp(ln(b.wait) - b.s2 / 2 + 1.2816 * sqrt(b.s2)) ELSE 0 END
FROM (SELECT a.wait, CASE WHEN a.wait > 0 THEN ln(1 + a.variance / a.wait ^ 2) ELSE 0 END AS s2
      FROM (SELECT w.wait, (w.wait * deviation / mean) ^ 2 / greatest(tries, 1) + (mean / servers) ^ 2 * greatest(
                       starts * least(1, w.cv2), starts * w.cv2 + servers * (1 / 6.0 - w.cv2 ^ 2 / 2 - w.cv2 ^ 3 / 3)) AS variance
            FROM (SELECT greatest(0, starts - greatest(0, 1 - (deviation / mean) ^ 2) / 2) * mean / servers AS wait,
                         (deviation / mean) ^ 2 AS cv2) AS w) AS a) AS b
$$;
