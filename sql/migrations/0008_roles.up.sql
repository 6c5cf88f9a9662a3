-- API keys. Least-privilege roles belong to a server, not to a database: `tandem db roles` makes them.
CREATE TABLE tandem.api_key (
    id            text COLLATE "C" NOT NULL PRIMARY KEY CONSTRAINT api_key_id CHECK (id ~ '^[a-z0-9]{12}$'),
    secret_hash   bytea       NOT NULL CONSTRAINT api_key_hash CHECK (octet_length(secret_hash) = 32),
    name          text        NOT NULL CONSTRAINT api_key_name CHECK (length(name) BETWEEN 1 AND 64),
    roles         text[]      NOT NULL CONSTRAINT api_key_roles CHECK (cardinality(roles) > 0),
    scopes        text[]      NOT NULL DEFAULT '{}',
    claims        jsonb       NOT NULL DEFAULT '{}' CONSTRAINT api_key_claims CHECK (jsonb_typeof(claims) = 'object'),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by    text        NOT NULL,
    expires_at    timestamptz,
    revoked_at    timestamptz,
    revoked_by    text,
    last_used_at  timestamptz
);
COMMENT ON TABLE tandem.api_key IS 'Keys to the HTTP API: the SHA-256 of each secret, never the secret';

-- Tables of partitions belong to the owner, whoever sweeps; and nobody may drop them by accident of a grant on the schema.
ALTER FUNCTION tandem.add_partition(bigint) SECURITY DEFINER;
ALTER FUNCTION tandem.drop_partition(bigint, bigint[]) SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION tandem.add_partition(bigint), tandem.drop_partition(bigint, bigint[]) FROM PUBLIC;
