"""Facts that this application reports on the fact bus; observability turns them into metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Denied:
    """Somebody asked for what its role and grants do not allow."""

    operation: str
    role: str


@dataclass(frozen=True, slots=True)
class Published:
    """Messages were published through this process."""

    topic: str
    messages: int


@dataclass(frozen=True, slots=True)
class Consumed:
    """Deliveries left this process: `outcome` is consumed, acknowledged, returned or dead."""

    topic: str
    group: str
    outcome: str
    messages: int
