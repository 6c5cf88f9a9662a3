"""Opening psycopg connections: a dead peer is noticed, calls have a limit, version, pooler and timeline are looked at.

Not a pool, and it never retries: loops that reconnect bring their own Backoff.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from app.config import DatabaseSettings
from app.database import primary
from app.database.deadline import BoundedAsyncConnection, BoundedConnection, DeadlineExceeded
from app.database.pooled import PooledAsyncConnection, PooledConnection, is_pooled
from app.database.primary import OldTimelineError, Reached
from app.errors import ConfigurationError, Unavailable

OLDEST_SERVER = 150000
# What a caller that keeps a connection treats as "it is gone, open another".
# One that takes no writes leads to a standby, or to a primary of yesterday: another one may lead to the right server.
READ_ONLY = psycopg.errors.ReadOnlySqlTransaction
CONNECTION_LOST = (psycopg.OperationalError, psycopg.InterfaceError, Unavailable, READ_ONLY)
Kind = TypeVar("Kind", BoundedAsyncConnection, BoundedConnection)
_pooled: set[str] = set()
"""Addresses behind which a pooler was found: the next connection there begins as one of its clients."""


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

    `session` are settings for the whole session; behind a transaction pooler, which is noticed, each transaction gets
    them instead. `call_timeout` in seconds replaces the configured limit of each call. Raises Unavailable when the
    server cannot be reached or is an old primary, ConfigurationError when it is too old or the address makes no sense.
    """
    settings = settings or DatabaseSettings()
    info, refused = connection_string(url, name=name, settings=settings), None
    for one in _orders(info):
        try:
            for kind in _kinds(url, settings, PooledAsyncConnection, BoundedAsyncConnection):
                connection = await _opened(kind, one, settings, autocommit)
                connection.limits.per_call = call_timeout or settings.call_timeout_seconds
                if await _greeted(connection, session or {}, settings):
                    return connection
                _pooled.add(url)
        except OldTimelineError as error:
            refused = error  # another host of the address may be the new primary
    assert refused is not None  # noqa: S101 - every round returns or is refused
    raise refused


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
    info, refused = connection_string(url, name=name, settings=settings), None
    for one in _orders(info):
        try:
            for kind in _kinds(url, settings, PooledConnection, BoundedConnection):
                try:
                    connection = kind.connect(one, autocommit=autocommit)
                except psycopg.OperationalError as error:
                    raise _unavailable(error) from error
                connection.limits.per_call = call_timeout or settings.call_timeout_seconds
                if _greeted_sync(connection, session or {}, settings):
                    return connection
                _pooled.add(url)
        except OldTimelineError as error:
            refused = error
    assert refused is not None  # noqa: S101 - every round returns or is refused
    raise refused


async def _opened(
    kind: type[BoundedAsyncConnection], info: str, settings: DatabaseSettings, autocommit: bool
) -> BoundedAsyncConnection:
    try:
        # libpq bounds each address by itself, but not the look-up of the name.
        async with asyncio.timeout(_connect_limit(info, settings)):
            return await kind.connect(info, autocommit=autocommit)
    except (TimeoutError, psycopg.OperationalError) as error:
        raise _unavailable(error) from error


async def _greeted(
    connection: BoundedAsyncConnection, session: Mapping[str, str], settings: DatabaseSettings
) -> bool:
    """Set the session up and look where it leads; False, and closed, when a pooler was not expected there."""
    try:
        check_server_version(connection.info.server_version)
        _prepare_connection(connection, session, settings)
        # Not through the connection's own cursors: behind a pooler they would bring the settings themselves.
        cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        parameters = _question(connection, session, settings)
        try:
            await cursor.execute(primary.WITH_IDENTITY, parameters, prepare=False)
        except primary.REFUSED:
            await connection.rollback()
            await cursor.execute(primary.WITHOUT_IDENTITY, parameters, prepare=False)
        reached = primary.read(await cursor.fetchone())
        if not connection.autocommit:
            await connection.commit()
        primary.timelines.check(reached)
    except BaseException:
        await connection.close()
        raise
    if _is_expected(connection, reached, settings):
        return True
    await connection.close()
    return False


def _greeted_sync(
    connection: BoundedConnection, session: Mapping[str, str], settings: DatabaseSettings
) -> bool:
    try:
        check_server_version(connection.info.server_version)
        _prepare_connection(connection, session, settings)
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        parameters = _question(connection, session, settings)
        try:
            cursor.execute(primary.WITH_IDENTITY, parameters, prepare=False)
        except primary.REFUSED:
            connection.rollback()
            cursor.execute(primary.WITHOUT_IDENTITY, parameters, prepare=False)
        reached = primary.read(cursor.fetchone())
        if not connection.autocommit:
            connection.commit()
        primary.timelines.check(reached)
    except BaseException:
        connection.close()
        raise
    if _is_expected(connection, reached, settings):
        return True
    connection.close()
    return False


def _prepare_connection(
    connection: BoundedAsyncConnection | BoundedConnection,
    session: Mapping[str, str],
    settings: DatabaseSettings,
) -> None:
    if isinstance(connection, PooledAsyncConnection | PooledConnection):
        connection.local.settle(session)
        connection.prepare_threshold = None
    else:
        connection.prepare_threshold = 5 if settings.prepared_statements else None


def _question(
    connection: BoundedAsyncConnection | BoundedConnection,
    session: Mapping[str, str],
    settings: DatabaseSettings,
) -> dict[str, Any]:
    told = None if settings.pooler == "none" else connection.info.backend_pid
    return primary.parameters(told, session, never=is_pooled(connection))


def _is_expected(
    connection: BoundedAsyncConnection | BoundedConnection,
    reached: Reached,
    settings: DatabaseSettings,
) -> bool:
    return is_pooled(connection) or settings.pooler == "none" or reached.pid == connection.info.backend_pid


def _kinds(
    url: str, settings: DatabaseSettings, pooled: type[Kind], direct: type[Kind]
) -> tuple[type[Kind], ...]:
    """The kinds of connection to try, in this order."""
    if settings.pooler == "transaction" or (settings.pooler == "auto" and url in _pooled):
        return (pooled,)
    return (direct, pooled)


def _orders(info: str) -> Iterator[str]:
    """The connection string, and the same with each of its other hosts first."""
    given = conninfo_to_dict(info)
    lists = {key: str(given[key]).split(",") for key in ("host", "hostaddr", "port") if given.get(key)}
    hosts = max(map(len, lists.values()), default=1)
    yield info
    for first in range(1, hosts):
        turned = {
            key: ",".join(all_[first:] + all_[:first]) for key, all_ in lists.items() if len(all_) == hosts
        }
        yield make_conninfo(info, **turned)


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
    "READ_ONLY",
    "DeadlineExceeded",
    "check_server_version",
    "connect",
    "connect_sync",
    "connection_string",
    "is_pooled",
]
