"""Running a command's questions on one connection: the database is found, its schema checked, errors explained."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from app.config import CHECKOUT, Settings, load_settings
from app.errors import AppError, Unavailable

if TYPE_CHECKING:
    from app.database.deadline import BoundedAsyncConnection
    from app.queue.kinds import Registry

Result = TypeVar("Result")
LONG_CALL_SECONDS = 600.0
"""How long a single statement of a command may take: some read every job."""


def ask(action: "Callable[[BoundedAsyncConnection], Awaitable[Result]]") -> Result:
    """The answer of `action` on a connection. Raises AppError, also for what the database says."""

    async def with_connection(settings: Settings, url: str) -> Result:
        from app.database.connect import connect

        async with await connect(
            url, name="cli", settings=settings.database, call_timeout=LONG_CALL_SECONDS
        ) as connection:
            return await action(connection)

    return _run(with_connection)


def act(action: "Callable[[BoundedAsyncConnection, Registry], Awaitable[Result]]") -> Result:
    """The same for what changes jobs, with every kind this checkout knows and the operator's own: their hooks run."""

    async def with_registry(settings: Settings, url: str) -> Result:
        from app.applications import make_registry
        from app.database.connect import connect
        from app.database.sessions import Sessions

        sessions = Sessions(url, name="cli", settings=settings.database)
        try:
            registry = make_registry(settings, sessions)
            async with await connect(
                url, name="cli", settings=settings.database, call_timeout=LONG_CALL_SECONDS
            ) as connection:
                return await action(connection, registry)
        finally:
            await sessions.dispose()

    return _run(with_registry)


def _run(action: Callable[[Settings, str], Awaitable[Result]]) -> Result:
    import asyncio

    import psycopg

    from app.database import version
    from app.database.location import database

    async def main(url: str) -> Result:
        return await action(settings, url)

    settings = load_settings()
    with database(settings, root=CHECKOUT) as place:
        try:
            version.check(place.url, settings=settings.database)
            return asyncio.run(main(place.url))
        except AppError:
            raise
        except psycopg.Error as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Unavailable("database-failed", f"the database says: {said}") from error


def operator() -> str:
    """Who runs this command, for what is kept of it."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "operator"
