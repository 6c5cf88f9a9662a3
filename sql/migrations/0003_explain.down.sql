-- Removes tandem.explain.
DROP FUNCTION IF EXISTS tandem.explain(bigint);
DROP FUNCTION IF EXISTS tandem.job_circumstances(bigint);
