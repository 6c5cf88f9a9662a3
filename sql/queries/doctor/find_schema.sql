-- Whether this database was ever migrated.
SELECT to_regclass('tandem.alembic_version') IS NOT NULL AS exists
