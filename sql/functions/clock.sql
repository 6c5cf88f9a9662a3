-- tandem.clock(): the queue's one clock. Tests move it with SET tandem.clock_offset = '1 hour'.
CREATE OR REPLACE FUNCTION tandem.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp() + coalesce(nullif(current_setting('tandem.clock_offset', true), '')::interval, interval '0');
