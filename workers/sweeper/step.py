"""What every sweeper step shares: a name, a pace, one bounded run, and the settled moment that floors rest on."""

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run did: rows moved, and details for people."""

    rows: int
    detail: dict[str, int] = field(default_factory=dict)


class Step(ABC):
    """One periodic service. A run that raises is reported and tried again at its next turn."""

    name: str
    every: float
    generation = 0
    """Which of its connections the step ran on last."""

    @abstractmethod
    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Do all that is due now, in bounded batches."""

    def reset(self) -> None:  # noqa: B027 - most steps remember nothing
        """Forget what was remembered: leadership or the server is new."""


class Settled:
    """Positions and moments below which no running transaction can add a row any more.

    A sample is settled once the snapshot's xmin has reached the boundary drawn after it: every transaction that
    could have drawn an earlier position, or read an earlier clock, has ended.
    """

    def __init__(self) -> None:
        self.position = 0
        self.at = BEGINNING
        self._open: deque[tuple[int, datetime, int]] = deque(maxlen=600)

    def forget(self) -> None:
        """Start over."""
        self.position, self.at = 0, BEGINNING
        self._open.clear()

    async def sample(self, store: Store) -> None:
        """Take a sample and settle those whose transactions have all ended."""
        position, at = await store.sample_position()
        xmin, boundary = await store.read_snapshot()
        self._open.append((position, at, boundary))
        while self._open and self._open[0][2] <= xmin:
            self.position, self.at, _ = self._open.popleft()
