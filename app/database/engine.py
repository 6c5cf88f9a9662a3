"""SQLAlchemy engines and sessions over the same bounded connections as everything else.

For the domains' repositories. The queue core does not use SQLAlchemy.
"""

from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from app.config import DatabaseSettings
from app.database.connect import connect, connect_sync
from app.database.deadline import BoundedAsyncConnection, BoundedConnection
from app.database.session_settings import session_limits

# The creator knows the address, SQLAlchemy only the dialect. hstore would cost a look-up per connection.
DIALECT = "postgresql+psycopg://"


def make_engine(url: str, *, name: str, settings: DatabaseSettings | None = None) -> AsyncEngine:
    """An async engine with a pool; waits `pool_wait_seconds` for a connection, then TimeoutError."""
    settings = settings or DatabaseSettings()

    async def creator(*_: Any, **__: Any) -> BoundedAsyncConnection:
        return await connect(
            url, name=name, autocommit=False, settings=settings, session=session_limits(settings)
        )

    return create_async_engine(
        DIALECT, async_creator=creator, use_native_hstore=False, pool_pre_ping=True, **_pool(settings)
    )


def make_session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions whose objects stay readable after commit: an async session must not reload them by itself."""
    return async_sessionmaker(engine, expire_on_commit=False)


def make_sync_engine(
    url: str, *, name: str, settings: DatabaseSettings | None = None, pooled: bool = True
) -> Engine:
    """The same for synchronous code; `pooled=False` opens a connection for each use (migrations)."""
    settings = settings or DatabaseSettings()

    def creator(*_: Any, **__: Any) -> BoundedConnection:
        return connect_sync(
            url,
            name=name,
            autocommit=False,
            settings=settings,
            session=session_limits(settings) if pooled else None,
        )

    if not pooled:
        return create_engine(DIALECT, creator=creator, use_native_hstore=False, poolclass=NullPool)
    return create_engine(
        DIALECT, creator=creator, use_native_hstore=False, pool_pre_ping=True, **_pool(settings)
    )


def make_sync_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Synchronous sessions, objects readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


def _pool(settings: DatabaseSettings) -> dict[str, Any]:
    return {
        "pool_size": settings.pool_size,
        "max_overflow": settings.pool_overflow,
        "pool_timeout": settings.pool_wait_seconds,
        # The connection used last is the one most likely alive, and the rest may close on the server's side.
        "pool_use_lifo": True,
    }
