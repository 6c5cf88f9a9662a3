"""Recalculates the priorities of waiting jobs, for the queues that have a formula or age."""

from time import monotonic

from app.database.deadline import BoundedAsyncConnection
from app.queue.kinds import Registry
from app.queue.priority import read_rules, recalculate
from app.queue.store import Store
from workers.sweeper.step import Moved, Step

SHARE = 10
"""A walk over very many jobs that takes long is repeated only after this many times as long."""


class RecalculatePriorities(Step):
    """Walks over all that waits by job id, in transactions of one batch; costs one look while no queue asks for it."""

    name = "priorities"

    def __init__(self, registry: Registry, *, every: float = 1.0) -> None:
        self.registry = registry
        self.every = every
        self._next: dict[str, float] = {}

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Walk once for the queues whose time has come."""
        began, rules = monotonic(), await read_rules(connection, self.registry.priorities)
        due = {queue: rule for queue, rule in rules.items() if began >= self._next.get(queue, 0.0)}
        moved, failed = 0, set[str]()
        after = 0 if due else None
        while after is not None:
            most = min(rule.batch for rule in due.values())
            page = await recalculate(connection, due, after=after, most=most)
            moved, failed, after = moved + page.moved, failed | page.failed, page.after
            if page.lanes:
                await Store(connection).wake_lanes(page.lanes)
        least = SHARE * (monotonic() - began)
        self._next |= {queue: began + max(rule.every, least) for queue, rule in due.items()}
        return Moved(moved, {"failed": len(failed)})

    def reset(self) -> None:
        """Walk at once."""
        self._next.clear()
