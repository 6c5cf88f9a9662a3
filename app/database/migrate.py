"""Changing the schema: Alembic's migrations in one transaction, one process at a time, with short lock waits.

Whether the schema fits is asked in version.py, which this module offers too.
"""

import logging
import time
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from app.config import CHECKOUT, DatabaseSettings
from app.database.backoff import Backoff
from app.database.connect import connect_sync
from app.database.deadline import BoundedConnection
from app.database.engine import DIALECT
from app.database.version import check, current, known, read, refuse_newer
from app.errors import ConfigurationError, Unavailable

# Any constant will do, as long as nobody else in the database uses it: "tandem" in ASCII.
LOCK = 0x74616E64656D
LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

_log = logging.getLogger(__name__)


def upgrade(
    url: str,
    revision: str = "head",
    *,
    settings: DatabaseSettings | None = None,
    patience_seconds: float = 120,
) -> str:
    """Bring the database to `revision`; returns its version then. Safe from several processes at once.

    A lock that is not free within `lock_timeout` rolls everything back and is tried again for
    `patience_seconds`, so that live traffic never queues behind a migration. Raises ConfigurationError
    when the database is newer than this code, Unavailable when the locks were never free.
    """
    return _run(url, revision, command.upgrade, settings or DatabaseSettings(), patience_seconds)


def downgrade(
    url: str, revision: str, *, settings: DatabaseSettings | None = None, patience_seconds: float = 120
) -> str | None:
    """Go back to `revision` ("base" for nothing at all), which drops what later ones made."""
    return _run(url, revision, command.downgrade, settings or DatabaseSettings(), patience_seconds) or None


def _run(url: str, revision: str, action: object, settings: DatabaseSettings, patience: float) -> str:
    backoff = Backoff(settings.backoff_first_seconds, settings.backoff_most_seconds)
    end = time.monotonic() + patience
    while True:
        try:
            return _attempt(url, revision, action, settings)
        except LOCKED as error:
            if time.monotonic() >= end:
                raise Unavailable(
                    "schema-locked",
                    f"the migration got no lock within {patience:.0f} s; nothing was changed: {error}",
                ) from error
            _log.warning("the migration waits for a lock: %s", str(error).partition("\n")[0])
            time.sleep(backoff.next())


def _attempt(url: str, revision: str, action: object, settings: DatabaseSettings) -> str:
    session = {"lock_timeout": str(settings.lock_timeout_ms), "statement_timeout": "0"}

    def creator() -> BoundedConnection:
        return connect_sync(
            url, name="migrate", autocommit=False, settings=settings, session=session, call_timeout=3600
        )

    engine = create_engine(DIALECT, creator=creator, poolclass=NullPool, use_native_hstore=False)
    try:
        with engine.begin() as connection:
            prepare(connection)
            config = configuration()
            config.attributes["connection"] = connection
            action(config, revision)  # type: ignore[operator]
            return read(driver_connection(connection)) or ""
    except DBAPIError as error:
        if isinstance(error.orig, LOCKED):
            raise error.orig from error
        raise


def prepare(connection: Connection) -> None:
    """Inside a transaction: wait for other migrating processes, refuse a newer schema, make the schema.

    The lock ends with the transaction, whatever becomes of this process.
    """
    driver = driver_connection(connection)
    driver.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    refuse_newer(read(driver))
    row = driver.execute("SELECT to_regnamespace('tandem') IS NULL").fetchone()
    # IF NOT EXISTS would ask for the right to create schemas even where it exists already.
    if row is not None and row[0]:
        driver.execute("CREATE SCHEMA tandem")


def driver_connection(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    """The psycopg connection below, in the same transaction; it runs scripts of many statements."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise ConfigurationError("not-psycopg", "migrations run through psycopg 3 only")
    return driver


def configuration(root: Path = CHECKOUT) -> Config:
    """Alembic's configuration for this code."""
    config = Config(str(root / "alembic.ini"))
    config.set_main_option("script_location", str(root / "migrations"))
    return config


__all__ = [
    "check",
    "configuration",
    "current",
    "downgrade",
    "driver_connection",
    "known",
    "prepare",
    "upgrade",
]
