-- The key of an id, and whether it holds. Its use is noted once a minute, and only with the right secret.
WITH used AS (
    UPDATE tandem.api_key SET last_used_at = clock_timestamp()
    WHERE id = %(id)s AND secret_hash = %(hash)s AND revoked_at IS NULL
      AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
)
SELECT secret_hash, name, roles, scopes, claims,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
            WHEN expires_at <= clock_timestamp() THEN 'expired' ELSE 'good' END AS state,
       coalesce(extract(epoch FROM expires_at - clock_timestamp())::float8, 1e9::float8) AS seconds_left
FROM tandem.api_key WHERE id = %(id)s
