"""Runs the frozen SQL text of a version, sql/migrations/<name>.up.sql and .down.sql."""

from pathlib import Path

from alembic import op

from app.database.migrate import driver_connection

FROZEN = Path(__file__).resolve().parent.parent / "sql" / "migrations"


def up(*names: str) -> None:
    """Run the `.up.sql` of each name, in this order."""
    for name in names:
        _run(f"{name}.up.sql")


def down(*names: str) -> None:
    """Run the `.down.sql` of each name, last first: give the same names as to `up`."""
    for name in reversed(names):
        _run(f"{name}.down.sql")


def _run(file: str) -> None:
    # As one string without parameters: PostgreSQL runs it as a script, and % and : mean themselves.
    driver_connection(op.get_bind()).execute((FROZEN / file).read_bytes())
