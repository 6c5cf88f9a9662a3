"""Priorities that change while jobs wait: a queue's formula, its ageing, and the walk that applies both.

What changes goes to the end of its new band. Jobs of ordered queues keep their place, whatever their priority.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from app.errors import InvalidInput, NotFound
from app.queue.dict_rows import Row
from app.queue.job import PRIORITIES, check_name
from app.queue.priority_store import PriorityStore, WaitingJob

__all__ = ["Ageing", "Formula", "Rule", "WaitingJob", "age_queue", "read_ageing", "read_rules", "recalculate"]
LOWEST, HIGHEST = min(PRIORITIES), max(PRIORITIES)
SHORTEST, LONGEST = 1.0, 366 * 86_400.0
"""Seconds after which jobs may age."""
Formula = Callable[..., Sequence[int] | Awaitable[Sequence[int]]]
"""`function(jobs)` or `function(jobs, connection)`, plain or async: one priority for each job, in their order."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ageing:
    """Each time a job has waited `after` seconds its priority rises by `step`, up to `most`. Raises InvalidInput."""

    after: float
    step: int = 1
    most: int = HIGHEST

    def __post_init__(self) -> None:
        if not SHORTEST <= self.after <= LONGEST:
            raise InvalidInput("invalid-ageing", "jobs age after 1 second at the least, 366 days at the most")
        if not 0 <= self.step <= HIGHEST or not LOWEST <= self.most <= HIGHEST:
            raise InvalidInput("invalid-ageing", f"step and most are {LOWEST} to {HIGHEST}")

    def lift(self, priority: int, waited: float) -> int:
        """The priority after so many seconds; one that is above `most` by itself stays."""
        return max(priority, min(self.most, priority + self.step * int(waited / self.after)))


@dataclass(frozen=True, slots=True)
class Rule:
    """How the priorities of one queue come about: by formula (else as enqueued), then by ageing.

    `every` are the seconds between two walks, `batch` the jobs in one transaction of it. Raises InvalidInput.
    """

    queue: str
    function: Formula | None = None
    ageing: Ageing | None = None
    every: float = 60.0
    batch: int = 1000

    def __post_init__(self) -> None:
        check_name("queue", self.queue)
        if self.every <= 0 or not 1 <= self.batch <= 100_000:
            raise InvalidInput("invalid-priority-rule", "every is above 0 seconds, batch 1 to 100,000")

    async def priorities(self, jobs: Sequence[WaitingJob], connection: AsyncConnection[Any]) -> Sequence[int]:
        """The priority of each job now. Raises InvalidInput for too few or too many answers, or as the formula."""
        wanted = await self._wanted(jobs, connection)
        if len(wanted) != len(jobs):
            raise InvalidInput(
                "invalid-priority", f"the formula of {self.queue!r} answers one priority for each job"
            )
        bounded = [max(LOWEST, min(HIGHEST, int(one))) for one in wanted]
        if (ageing := self.ageing) is None:
            return bounded
        return [ageing.lift(one, job.waited) for one, job in zip(bounded, jobs, strict=True)]

    async def _wanted(self, jobs: Sequence[WaitingJob], connection: AsyncConnection[Any]) -> Sequence[int]:
        if self.function is None:
            return [job.base for job in jobs]
        takes = len(inspect.signature(self.function).parameters)
        found = self.function(jobs, connection) if takes > 1 else self.function(jobs)
        return await found if inspect.isawaitable(found) else found


@dataclass(slots=True)
class Page:
    """One step of the walk: jobs moved, lanes to wake, queues whose formula failed, where to go on (None: it ended)."""

    moved: int = 0
    lanes: list[int] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    after: int | None = None


def pace_of(ageing: Ageing) -> float:
    """Seconds between two walks that only age: often enough that a step comes at most a quarter late."""
    return min(60.0, max(1.0, ageing.after / 4))


async def read_rules(connection: AsyncConnection[Any], declared: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules that hold now: those of the code, with the ageing that operators set in its place."""
    rules = dict(declared)
    for row in await PriorityStore(connection).read_ageing():
        ageing = Ageing(row["after"], row["step"], row["most"])
        known = rules.get(row["queue"], Rule(row["queue"], every=pace_of(ageing)))
        rules[row["queue"]] = replace(known, ageing=ageing, every=min(known.every, pace_of(ageing)))
    return rules


async def recalculate(
    connection: AsyncConnection[Any], rules: Mapping[str, Rule], *, after: int, most: int
) -> Page:
    """Look at the next `most` waiting jobs behind the id `after`, and move those whose priority is another now.

    A formula that fails is logged, and leaves its own queue alone only.
    """
    store, page = PriorityStore(connection), Page()
    looked, last, jobs = await store.find_waiting(list(rules), after=after, most=most)
    changes: dict[int, int] = {}
    for queue, group in groupby(sorted(jobs, key=attrgetter("queue", "job_id")), key=attrgetter("queue")):
        waiting = list(group)
        try:
            wanted = await rules[queue].priorities(waiting, connection)
        except Exception as error:
            if connection.closed:
                raise
            _log.error("priorities of queue %s stay as they are: %s", queue, error, exc_info=error)
            page.failed.add(queue)
            continue
        finally:
            await _leave_transaction(connection)
        changes |= {job.job_id: new for job, new in zip(waiting, wanted, strict=True) if new != job.priority}
    if changes:
        page.moved, page.lanes = await store.change_priorities(list(changes), list(changes.values()))
    page.after = last if looked == most else None
    return page


async def _leave_transaction(connection: AsyncConnection[Any]) -> None:
    """What a formula left open would hold locks, or fail every statement after it."""
    if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
        await connection.rollback()


async def age_queue(connection: AsyncConnection[Any], queue: str, ageing: Ageing | None) -> Row:
    """Let the jobs of a queue age from now on, whatever the code says; None: as the code says. Raises InvalidInput."""
    check_name("queue", queue)
    after, step, most = (ageing.after, ageing.step, ageing.most) if ageing else (None, None, None)
    return await PriorityStore(connection).age_queue(queue, after=after, step=step, most=most)


async def read_ageing(connection: AsyncConnection[Any], queue: str) -> Row:
    """The ageing that operators set for a queue: queue, after (seconds), step, most. Raises NotFound."""
    for row in await PriorityStore(connection).read_ageing():
        if row["queue"] == queue:
            return row
    raise NotFound("no-ageing", f"no ageing is set for queue {queue!r}: what the code says counts")
