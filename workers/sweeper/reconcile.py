"""Runs the applications' own repairs: events that were saved but have no living job get one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.database.deadline import BoundedAsyncConnection
from workers.sweeper.step import Moved, Step

Repair = Callable[[BoundedAsyncConnection], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One application's repair: finds what was missed, mends it in its own transactions, answers how much."""

    name: str
    repair: Repair
    every: float


class Reconcile(Step):
    """One step per reconciler, so that one application's trouble never holds up another's."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.name = f"reconcile-{reconciler.name}"
        self.every = reconciler.every
        self._repair = reconciler.repair

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Run the repair."""
        return Moved(await self._repair(connection))
