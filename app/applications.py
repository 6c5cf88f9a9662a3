"""Which applications this service is made of, and the registry with all their kinds.

API, workers and commands build theirs here, so that a hook known to one of them is known to all.
"""

import importlib
from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.config import Settings
from app.domains.conversations import jobs as conversations
from app.errors import ConfigurationError
from app.queue.kinds import Registry

Sessions = async_sessionmaker[AsyncSession]
REGISTRATIONS: Sequence[Callable[..., None]] = (conversations.register,)


def make_registry(settings: Settings, sessions: Sessions) -> Registry:
    """Every kind of every application, and of the operator's own handlers. Raises ConfigurationError."""
    registry = Registry()
    for register in REGISTRATIONS:
        register(registry, sessions=sessions, settings=settings)
    for name in settings.handlers:
        add_handlers(registry, name, settings, sessions)
    return registry


def add_handlers(registry: Registry, name: str, settings: Settings, sessions: Sessions) -> None:
    """Add the kinds of `module:name`: a Registry, or a function like an application's `register`.

    The name comes from the operator's settings, never from a caller of the service. Raises ConfigurationError.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute or "registry")
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            "no-handlers", f"handlers {name!r}: {error}; write module:name, and put the module on PYTHONPATH"
        ) from error
    if isinstance(found, Registry):
        registry.include(found)
    elif callable(found):
        found(registry, sessions=sessions, settings=settings)
    else:
        raise ConfigurationError("no-handlers", f"handlers {name!r} is neither a Registry nor a function")
