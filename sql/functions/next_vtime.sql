-- tandem.next_vtime(own, least, added): a key's virtual time after a charge, never below `least`: who was away comes back at
-- the clock of its queue, not with all the time it did not use (start-time fair queueing, Goyal and others, 1996). Internal.
CREATE OR REPLACE FUNCTION tandem.next_vtime(own double precision, least_one double precision, added double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN greatest(coalesce(own, least_one) + coalesce(added, 0), least_one);
