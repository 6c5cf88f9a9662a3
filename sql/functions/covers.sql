-- tandem.covers(floors, firsts): whether a turn's floors lie at or below all that came, so that nothing changes. Internal.
CREATE OR REPLACE FUNCTION tandem.covers(floors bigint[], firsts bigint[]) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN NOT EXISTS (SELECT FROM unnest(floors, firsts) AS u(floor, first) WHERE u.first IS NOT NULL AND coalesce(u.floor > u.first, true));
