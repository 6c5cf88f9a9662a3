"""Facts that the queue reports on the fact bus (app.events); observability turns them into metrics and logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from app.queue.job import ClaimedJob


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim brought these jobs."""

    jobs: Sequence[ClaimedJob]


class Outcome(NamedTuple):
    """How one try ended: "lost" means that its lease was gone and nothing was written."""

    job: ClaimedJob
    result: Literal["success", "retry", "dead", "cancelled", "lost"]
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """These tries ended in this process, and the database knows."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweeper service ran: how many rows it moved, and whether it failed."""

    service: str
    moved: int
    seconds: float
    failed: bool = False
