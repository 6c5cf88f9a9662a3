-- Ends a key; the first to revoke it is remembered.
UPDATE tandem.api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()), revoked_by = coalesce(revoked_by, %(by)s)
WHERE id = %(id)s
