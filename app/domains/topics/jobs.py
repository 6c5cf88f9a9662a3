"""What a worker process registers for topics: the worked example's consumers, if it is on, and the sweeper's steps."""

from collections.abc import Awaitable, Callable

from app.config import Settings
from app.database.deadline import BoundedAsyncConnection
from app.database.sessions import OpenSession
from app.domains.topics import audit, example, upkeep
from app.domains.topics.consumers import add_consumers
from app.queue.kinds import Registry
from app.queue.sealing import load_keyring

Repair = Callable[[BoundedAsyncConnection], Awaitable[int]]


def register(registry: Registry, *, sessions: OpenSession, settings: Settings) -> None:
    """Add the example's consumers, if it is on. Own ones come through `add_consumers` in an own registry."""
    if settings.topics.example:
        made = example.consumers(settings.topics, settings.notifications)
        add_consumers(registry, made, load_keyring(settings.topics.key_file, settings.topics.keys))


def reconcilers(settings: Settings) -> list[tuple[str, Repair, float]]:
    """(name, work, seconds between two runs) for the sweeper."""
    own = settings.topics
    return [
        ("topic-fills", upkeep.fill, own.fill_every_seconds),
        ("audit-seal", lambda connection: audit.seal(connection, own.audit_folder), own.seal_every_seconds),
        ("topic-logs", upkeep.keep_logs, own.keep_every_seconds),
    ]


def serve_consumers(settings: Settings, registry: Registry) -> Settings:
    """The settings with the queues of every consumer that is registered: nobody has to name them twice."""
    queues = {kind.name: 1 for kind in registry if kind.name.startswith("topic.")}
    if not queues:
        return settings
    worker = settings.worker.model_copy(update={"queues": {**queues, **settings.worker.queues}})
    return settings.model_copy(update={"worker": worker})
