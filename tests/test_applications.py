"""The registry of a process: the applications' kinds, and the operator's own beside them."""

import sys
import types
from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.applications import make_registry
from app.config import Settings, load_settings
from app.errors import ConfigurationError
from app.queue.kinds import Kind, Registry

SESSIONS: async_sessionmaker[AsyncSession] = async_sessionmaker()


async def nothing(_: object) -> None:
    """A handler."""


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """An importable module of the operator's."""
    made = types.ModuleType("own_handlers_of_a_test")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def test_the_applications_kinds_are_there() -> None:
    assert "process_conversation_event" in {kind.name for kind in make_registry(Settings(), SESSIONS)}


def test_a_registry_and_a_function_add_their_kinds(module: types.ModuleType) -> None:
    own = Registry()
    own.add(Kind("greet", nothing))

    def more(registry: Registry, *, sessions: object, settings: Settings) -> None:
        assert sessions is SESSIONS
        registry.add(Kind("part", nothing))

    module.registry, module.more = own, more  # type: ignore[attr-defined]
    settings = Settings(handlers=(module.__name__, f"{module.__name__}:more"))
    assert {"greet", "part"} <= {kind.name for kind in make_registry(settings, SESSIONS)}


def test_handlers_come_from_the_environment_by_comma(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HANDLERS", "hello:registry, mail")
    assert load_settings().handlers == ("hello:registry", "mail")


@pytest.mark.parametrize("name", ["no_such_module", "json:no_such_name", "", ":registry", "json:decoder"])
def test_what_is_no_handler_is_named_in_the_error(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"handlers '{name}'"):
        make_registry(Settings(handlers=(name,)), SESSIONS)


def test_a_kind_that_is_taken_is_refused(module: types.ModuleType) -> None:
    module.registry = Registry()  # type: ignore[attr-defined]
    module.registry.add(Kind("process_conversation_event", nothing))
    with pytest.raises(ConfigurationError, match="registered twice"):
        make_registry(Settings(handlers=(module.__name__,)), SESSIONS)
