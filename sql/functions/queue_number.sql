-- tandem.queue_number(queue): a queue in names of channels and session settings.
CREATE OR REPLACE FUNCTION tandem.queue_number(queue text) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hashtext(queue)::bigint & 4294967295;
