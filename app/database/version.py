"""Does the database's schema fit this code? Reads only, and without Alembic: every process asks at start.

The version is the number at the front of a file in migrations/versions.
"""

from pathlib import Path
from typing import LiteralString

import psycopg

from app.config import CHECKOUT, DatabaseSettings
from app.database.connect import connect_sync
from app.errors import ConfigurationError

VERSIONS = CHECKOUT / "migrations" / "versions"
_TABLE: LiteralString = "SELECT to_regclass('tandem.alembic_version') IS NOT NULL"
_VERSION: LiteralString = "SELECT version_num FROM tandem.alembic_version"


def known(folder: Path = VERSIONS) -> list[str]:
    """The versions that this code can make, oldest first."""
    return sorted(file.name.partition("_")[0] for file in folder.glob("[0-9]*_*.py"))


def current(url: str, *, settings: DatabaseSettings | None = None) -> str | None:
    """The version of the database at `url`; None when nothing was ever migrated there."""
    with connect_sync(url, name="version", settings=settings) as connection:
        return read(connection)


def check(url: str, *, settings: DatabaseSettings | None = None) -> str:
    """The database's version if it is the code's own.

    Raises ConfigurationError with code schema-missing, schema-older or schema-newer, and what to do.
    """
    found = current(url, settings=settings)
    refuse_newer(found)
    head = known()[-1]
    if found != head:
        code, is_at = ("schema-missing", "empty") if found is None else ("schema-older", f"at {found}")
        raise ConfigurationError(
            code,
            f"the database is {is_at}, this code needs {head}: run `tandem db upgrade`",
            detail={"found": found, "needed": head},
        )
    return head


def refuse_newer(found: str | None) -> None:
    """Raise ConfigurationError (schema-newer) for a version unknown to this code: it must not write there."""
    versions = known()
    if found is not None and found not in versions:
        raise ConfigurationError(
            "schema-newer",
            f"the database is at {found}, newer than this code ({versions[-1]}): "
            "run the release that made it, or a later one; nothing was changed",
            detail={"found": found, "needed": versions[-1]},
        )


def read(connection: psycopg.Connection[tuple[object, ...]]) -> str | None:
    """The version that an open connection sees."""
    exists = connection.execute(_TABLE).fetchone()
    if exists is None or not exists[0]:
        return None
    row = connection.execute(_VERSION).fetchone()
    return None if row is None else str(row[0])
