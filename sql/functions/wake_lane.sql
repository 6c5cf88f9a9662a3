-- tandem.wake_lane(queue): the wake lane (0-31) of a queue. A lock per queue would exhaust the lock table.
CREATE OR REPLACE FUNCTION tandem.wake_lane(queue text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hashtext(queue) & 31;
