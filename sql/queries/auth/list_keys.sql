-- Every key without its hash, newest first.
SELECT id, name, roles, scopes, claims, created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
            WHEN expires_at <= clock_timestamp() THEN 'expired' ELSE 'good' END AS state
FROM tandem.api_key ORDER BY created_at DESC, id
