-- tandem.refuse_size(payload, policy, context): raises program_limit_exceeded (54000) for what tandem.fits_size does not let
-- pass, and names it. Internal. It answers nothing; its type is that of a payload.
CREATE OR REPLACE FUNCTION tandem.refuse_size(payload jsonb, policy jsonb, context jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    large boolean := octet_length(payload::text) > 262144;
    bytes bigint := CASE WHEN large THEN octet_length(payload::text) ELSE greatest(octet_length(policy::text), octet_length(context::text)) END;
BEGIN
    RAISE EXCEPTION '% of % bytes is over the limit of %', CASE WHEN large THEN 'payload' ELSE 'policy or context' END, bytes,
        CASE WHEN large THEN 262144 ELSE 16384 END
        USING ERRCODE = 'program_limit_exceeded', HINT = 'Store the data in a table and enqueue its key.';
END
$$;
