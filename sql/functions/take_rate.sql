-- tandem.take_rate(name, every, burst, cost): takes `cost` from a rate that gives one each `every` and keeps at most `burst`.
-- Generic cell rate algorithm (ITU-T I.371): one theoretical arrival time per name. A refusal writes nothing.
-- `tat` answers when the rate is full again; it belongs to the caller's transaction and goes back with it.
CREATE OR REPLACE FUNCTION tandem.take_rate(rate_name text, every interval, burst integer, cost integer)
RETURNS TABLE (allowed boolean, at timestamptz, tat timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    at := tandem.clock();
    INSERT INTO tandem.rate AS r (name, tat)
    SELECT rate_name, at + cost * every WHERE cost <= burst
    ON CONFLICT (name) DO UPDATE SET tat = greatest(r.tat, at) + cost * every
    WHERE greatest(r.tat, at) + cost * every <= at + burst * every
    RETURNING r.tat INTO take_rate.tat;
    allowed := FOUND;
    IF NOT allowed THEN
        tat := coalesce((SELECT r.tat FROM tandem.rate AS r WHERE r.name = rate_name), at);
    END IF;
    RETURN NEXT;
END
$$;
