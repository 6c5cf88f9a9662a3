"""How many worker processes the backlog asks for, and a pace at which to follow: one at a time, never to and fro.

Pure but for `measure_demand`. Who starts and ends processes is app/cli/processes.py, or a scaler outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple

import psycopg

from app.errors import ConfigurationError
from app.queue.store import statement

MOST_COUNTED = 10_000
UNKNOWN_SECONDS = 1.0
"""What a try is taken to need while none is known."""


class Demand(NamedTuple):
    """One queue: jobs that wait and could run, jobs that run, seconds of a mean try, its limit."""

    queue: str
    waiting: int
    running: int
    mean: float | None
    max_running: int | None


def measure_demand(connection: psycopg.Connection[Any], queues: Sequence[str]) -> list[Demand]:
    """What these queues ask for now."""
    params = {"queues": list(queues), "most": MOST_COUNTED}
    return [Demand(*row) for row in connection.execute(statement("scaling", "measure_demand"), params)]


def wanted_slots(demand: Sequence[Demand], *, drain: float) -> float:
    """Slots with which what waits would have started within `drain` seconds, beside what runs already.

    By Little's law a slot starts drain / mean jobs in that time. A queue wants at least one slot while a job waits,
    and no more than jobs or its limit.
    """
    total = 0.0
    for one in demand:
        needed = one.waiting * (one.mean or UNKNOWN_SECONDS) / drain
        slots = min(one.waiting, max(needed, min(1, one.waiting))) + one.running
        total += slots if one.max_running is None else min(slots, max(one.max_running, one.running))
    return total


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between how many processes; `auto`, `auto:1-8`. Raises ConfigurationError."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= 64:
            raise ConfigurationError("invalid-processes", "--processes auto:MIN-MAX: 1 <= MIN <= MAX <= 64")

    def clip(self, count: int) -> int:
        """The nearest number inside."""
        return max(self.least, min(self.most, count))


@dataclass(slots=True)
class Scaler:
    """Follows what is wanted, one process at a time, with `up` or `down` seconds between two steps.

    It grows once more has been wanted at two looks in a row, and shrinks once a fifth of a process less than one fewer
    has been wanted for all of `down`: a backlog that comes and goes changes nothing.
    """

    bounds: Bounds
    slots: int
    drain: float = 30.0
    up: float = 5.0
    down: float = 60.0
    _changed_at: float = field(default=float("-inf"))
    _above: int = 0
    _below_since: float | None = None

    def wanted(self, demand: Sequence[Demand]) -> int:
        """Processes that the demand asks for, within the bounds."""
        return self.bounds.clip(ceil(wanted_slots(demand, drain=self.drain) / self.slots))

    def step(self, current: int, demand: Sequence[Demand], now: float) -> int:
        """How many processes there should be now, when there are `current`: one more, one less, or as many."""
        slots, wanted = wanted_slots(demand, drain=self.drain), self.wanted(demand)
        self._above = self._above + 1 if wanted > current else 0
        spare = current > self.bounds.least and slots <= (current - 1) * self.slots * 0.8
        if not spare:
            self._below_since = None
        elif self._below_since is None:
            self._below_since = now
        if current < self.bounds.least or (self._above >= 2 and now - self._changed_at >= self.up):
            return self._change(current + 1, now)
        if self._below_since is not None and now - max(self._below_since, self._changed_at) >= self.down:
            return self._change(current - 1, now)
        return current

    def _change(self, count: int, now: float) -> int:
        self._changed_at, self._above, self._below_since = now, 0, None
        return count
