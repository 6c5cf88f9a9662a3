"""Opening psycopg connections: a dead peer is noticed, calls have a limit, the server's version is checked.

Not a pool, and it never retries: loops that reconnect bring their own Backoff.
"""

import asyncio
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.config import DatabaseSettings
from app.database.deadline import BoundedAsyncConnection, BoundedConnection, DeadlineExceeded
from app.errors import ConfigurationError, Unavailable

OLDEST_SERVER = 150000
SET = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS one (name, value)"
# What a caller that keeps a connection treats as "it is gone, open another".
CONNECTION_LOST = (psycopg.OperationalError, psycopg.InterfaceError, Unavailable)


async def connect(
    url: str,
    *,
    name: str,
    autocommit: bool = True,
    settings: DatabaseSettings | None = None,
    session: Mapping[str, str] | None = None,
    call_timeout: float | None = None,
) -> BoundedAsyncConnection:
    """Open an async connection that shows up as "tandem `name`" in pg_stat_activity.

    `session` are settings for the whole session (not behind a transaction pooler). `call_timeout` in seconds
    replaces the configured limit of each call. Raises Unavailable when the server cannot be reached,
    ConfigurationError when it is too old or the address makes no sense.
    """
    settings = settings or DatabaseSettings()
    info = connection_string(url, name=name, settings=settings)
    try:
        # libpq bounds each address by itself, but not the look-up of the name.
        async with asyncio.timeout(_connect_limit(info, settings)):
            connection = await BoundedAsyncConnection.connect(info, autocommit=autocommit)
    except (TimeoutError, psycopg.OperationalError) as error:
        raise _unavailable(error) from error
    try:
        check_server_version(connection.info.server_version)
        connection.limits.per_call = call_timeout or settings.call_timeout_seconds
        connection.prepare_threshold = 5 if settings.prepared_statements else None
        if session:
            await connection.execute(SET, (list(session), list(session.values())))
            if not autocommit:
                await connection.commit()
    except BaseException:
        await connection.close()
        raise
    return connection


def connect_sync(
    url: str,
    *,
    name: str,
    autocommit: bool = True,
    settings: DatabaseSettings | None = None,
    session: Mapping[str, str] | None = None,
    call_timeout: float | None = None,
) -> BoundedConnection:
    """The same for synchronous code: threads, commands, migrations."""
    settings = settings or DatabaseSettings()
    info = connection_string(url, name=name, settings=settings)
    try:
        connection = BoundedConnection.connect(info, autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise _unavailable(error) from error
    try:
        check_server_version(connection.info.server_version)
        connection.limits.per_call = call_timeout or settings.call_timeout_seconds
        connection.prepare_threshold = 5 if settings.prepared_statements else None
        if session:
            connection.execute(SET, (list(session), list(session.values())))
            if not autocommit:
                connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def connection_string(url: str, *, name: str, settings: DatabaseSettings) -> str:
    """The libpq connection string for `url`; what the URL says itself (TLS, timeouts) wins over our defaults.

    Raises ConfigurationError when `url` is neither a URL nor a connection string of libpq.
    """
    try:
        given = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
    except psycopg.ProgrammingError as error:
        # The message of libpq may quote the URL, and the URL may hold a password.
        raise ConfigurationError(
            "invalid-database-url",
            "DATABASE_URL is not a PostgreSQL address; expected postgresql://user:password@host:port/database?sslmode=...",
        ) from error
    defaults: dict[str, str | int] = {
        "application_name": f"tandem {name}"[:63],
        "client_encoding": "utf8",
        "connect_timeout": settings.connect_timeout_seconds,
        "keepalives": 1,
        "keepalives_idle": settings.keepalives_idle_seconds,
        "keepalives_interval": settings.keepalives_interval_seconds,
        "keepalives_count": settings.keepalives_count,
        "tcp_user_timeout": settings.tcp_user_timeout_ms,
    }
    return make_conninfo("", **{**defaults, **given})


def check_server_version(version: int) -> None:
    """Raise ConfigurationError for a server older than PostgreSQL 15; `version` as libpq counts (150004)."""
    if version < OLDEST_SERVER:
        raise ConfigurationError(
            "postgresql-too-old",
            f"this server is PostgreSQL {version // 10000}; Tandem needs {OLDEST_SERVER // 10000} or newer",
            detail={"server_version": version},
        )


def _connect_limit(info: str, settings: DatabaseSettings) -> float:
    hosts = str(conninfo_to_dict(info).get("host") or "").count(",") + 1
    # localhost alone may stand for two addresses, and each gets the full time.
    return settings.connect_timeout_seconds * hosts * 2 + 1


def _unavailable(error: BaseException) -> Unavailable:
    reason = str(error).strip().splitlines()
    return Unavailable(
        "database-unavailable",
        f"the database cannot be reached: {reason[0] if reason else 'no answer in time'}",
        detail={"sqlstate": getattr(error, "sqlstate", None)},
    )


__all__ = [
    "CONNECTION_LOST",
    "DeadlineExceeded",
    "check_server_version",
    "connect",
    "connect_sync",
    "connection_string",
]
