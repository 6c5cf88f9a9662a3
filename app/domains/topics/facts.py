"""Facts that this application reports on the fact bus; observability turns them into metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicDenied:
    """Somebody asked for what its roles and grants do not allow."""

    operation: str


@dataclass(frozen=True, slots=True)
class TopicPublished:
    """Messages were published through this process."""

    topic: str
    messages: int


@dataclass(frozen=True, slots=True)
class TopicConsumed:
    """Deliveries moved over HTTP: `outcome` is consumed, success, retry or dead."""

    topic: str
    group: str
    outcome: str
    messages: int
