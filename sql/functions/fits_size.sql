-- tandem.fits_size(payload, policy, context): whether a job's documents are within the limits: 256 KiB, 16 KiB, 16 KiB, as
-- PostgreSQL writes them. Internal; true or NULL passes. Written out in place like tandem.fits_job. What takes 256 bytes as
-- jsonb is not written out to be measured: it could only be too large by 20 numbers of 100,000 digits.
CREATE OR REPLACE FUNCTION tandem.fits_size(payload jsonb, policy jsonb, context jsonb) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (pg_column_size(payload) <= 256 OR octet_length(payload::text) <= 262144)
   AND coalesce(octet_length(policy::text) <= 16384, true) AND coalesce(octet_length(context::text) <= 16384, true);
