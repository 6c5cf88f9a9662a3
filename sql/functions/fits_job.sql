-- tandem.fits_job(kind, queue, priority, partition_key): whether a job may be called this. Internal; true or NULL passes.
-- A function that the planner writes out where it stands, and not CHECK constraints of the table: those are read from
-- the catalog again by every statement, a third of what one enqueue cost (docs/adr/0009).
CREATE OR REPLACE FUNCTION tandem.fits_job(kind text, queue text, priority integer, partition_key text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN kind COLLATE "C" ~ '^[a-z][a-z0-9_.-]*$' AND length(kind) <= 63
   AND queue COLLATE "C" ~ '^[a-z][a-z0-9_.-]*$' AND length(queue) <= 63
   AND priority BETWEEN 0 AND 9 AND coalesce(length(partition_key) BETWEEN 1 AND 255, true);
