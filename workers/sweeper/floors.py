"""Moves the safe floors, so that claims and probes never walk over rows that are long gone."""

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store
from workers.sweeper.step import Moved, Settled, Step


class MoveFloors(Step):
    """Samples positions and moves each lane's floor to its lowest live row, at most to the settled sample."""

    name = "floors"

    def __init__(self, settled: Settled, *, every: float = 1.0) -> None:
        self.settled = settled
        self.every = every

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Sample, then move."""
        store = Store(connection)
        await self.settled.sample(store)
        position = self.settled.position
        return Moved(
            await store.advance_floors(settled=position) + await store.advance_touches(settled=position)
        )

    def reset(self) -> None:
        """Samples of an earlier leadership say nothing about a new server."""
        self.settled.forget()
