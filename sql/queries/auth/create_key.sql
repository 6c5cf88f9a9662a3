-- A new key; only the hash of its secret comes here.
INSERT INTO tandem.api_key (id, secret_hash, name, roles, scopes, claims, expires_at, created_by)
VALUES (%(id)s, %(hash)s, %(name)s, %(roles)s, %(scopes)s, %(claims)s, clock_timestamp() + %(lifetime)s::interval, %(by)s)
