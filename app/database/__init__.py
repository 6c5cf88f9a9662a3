"""Reaching PostgreSQL: where it is, connections with deadlines, engines, migrations, the embedded server."""
