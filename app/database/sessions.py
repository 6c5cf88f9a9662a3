"""SQLAlchemy's sessions for handlers, with an engine that is made, and a library that is loaded, at the first one.

SQLAlchemy is 18 MB and a quarter of a second: the API, and workers whose handlers need none, do without.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from app.config import DatabaseSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

OpenSession = Callable[[], "AsyncSession"]
"""What applications are given to open sessions: this file's `Sessions`, or an async_sessionmaker."""


class Sessions:
    """An async_sessionmaker on a bounded pool, made when it is first used; to its user there is no difference."""

    def __init__(self, url: str, *, name: str, settings: DatabaseSettings | None = None) -> None:
        self._url = url
        self._name = name
        self._settings = settings or DatabaseSettings()

    def __call__(self, **options: Any) -> "AsyncSession":
        """A new session."""
        return self.maker(**options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.maker, name)  # begin, configure and what else a maker has

    @cached_property
    def maker(self) -> "async_sessionmaker[AsyncSession]":
        """The real one."""
        # layout: late-import - this is the one place that decides when SQLAlchemy is loaded
        from app.database.engine import make_engine, make_session_factory  # noqa: PLC0415

        return make_session_factory(make_engine(self._url, name=self._name, settings=self._settings))

    def size(self) -> int:
        """Connections that its pool may keep."""
        return self._settings.pool_size

    def checkedout(self) -> int:
        """Connections that are lent now."""
        if "maker" not in self.__dict__:
            return 0
        used: int = self.maker.kw["bind"].pool.checkedout()
        return used

    async def dispose(self) -> None:
        """Close the pool, if there is one."""
        if "maker" in self.__dict__:
            await self.maker.kw["bind"].dispose()
