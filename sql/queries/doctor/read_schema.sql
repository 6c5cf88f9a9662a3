-- The schema's version.
SELECT version_num AS version FROM tandem.alembic_version
