-- tandem.lowest_by_band(bands, positions): ten positions, for each band the lowest one given. Internal to admission.
CREATE OR REPLACE FUNCTION tandem.lowest_by_band(bands smallint[], positions bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT min(u.pos) FROM generate_series(0, 9) AS g(band) LEFT JOIN unnest(bands, positions) AS u(band, pos) USING (band)
             GROUP BY g.band ORDER BY g.band);
