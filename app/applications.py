"""Which applications this service is made of, and the registry with all their kinds.

API, workers and commands build theirs here, so that a hook known to one of them is known to all.
"""

import importlib
from collections.abc import Callable, Sequence

from app.config import Settings
from app.database.sessions import OpenSession
from app.domains.conversations import jobs as conversations
from app.domains.conversations.analysis import make_analyse
from app.domains.customers import jobs as customers
from app.domains.customers.reports import report_for_job
from app.domains.customers.workflows import Workflow, make_workflows
from app.domains.topics import jobs as topics
from app.errors import ConfigurationError
from app.queue.kinds import Registry


def customer_workflows(settings: Settings) -> dict[str, Workflow]:
    """What customers may submit jobs for; here one application's offer becomes another's workflow."""
    return make_workflows(analyse=make_analyse(settings.conversations), report=report_for_job)


def _register_customers(registry: Registry, *, sessions: OpenSession, settings: Settings) -> None:
    workflows = customer_workflows(settings)
    customers.register(registry, workflows=workflows, settings=settings)


REGISTRATIONS: Sequence[Callable[..., None]] = (
    conversations.register,
    _register_customers,
    topics.register,
)


def make_registry(settings: Settings, sessions: OpenSession) -> Registry:
    """Every kind of every application, and of the operator's own handlers. Raises ConfigurationError."""
    registry = Registry()
    for register in REGISTRATIONS:
        register(registry, sessions=sessions, settings=settings)
    for name in settings.handlers:
        add_handlers(registry, name, settings, sessions)
    return registry


def add_handlers(registry: Registry, name: str, settings: Settings, sessions: OpenSession) -> None:
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
