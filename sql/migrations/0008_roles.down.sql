-- Removes what 0008_roles made.
DROP TABLE tandem.api_key;
ALTER FUNCTION tandem.add_partition(bigint) SECURITY INVOKER;
ALTER FUNCTION tandem.drop_partition(bigint, bigint[]) SECURITY INVOKER;
GRANT EXECUTE ON FUNCTION tandem.add_partition(bigint), tandem.drop_partition(bigint, bigint[]) TO PUBLIC;
