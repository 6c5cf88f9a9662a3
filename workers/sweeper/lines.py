"""Keeps managed queues in line: moves jobs when the management of a queue changes, and looks for forgotten keys."""

from app.database.deadline import BoundedAsyncConnection
from app.queue.admission_store import AdmissionStore
from workers.sweeper.step import Moved, Step

REMIND_AT_ONCE = 500


class KeepLines(Step):
    """Admission hears of everything by itself; what this finds was lost by a fault, or moved by an operator."""

    name = "lines"

    def __init__(self, *, every: float = 5.0, batch: int = 1000) -> None:
        self.every = every
        self.batch = batch
        self._after = ("", "")

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Move all that stands in the wrong place, then look at the next few keys."""
        store, moved = AdmissionStore(connection), 0
        for queue in await store.find_misplaced():
            while (some := await store.move_waiting(queue, most=self.batch)) > 0:
                moved += some
        last, seen, reminded = await store.remind(after=self._after, most=REMIND_AT_ONCE)
        self._after = last if seen == REMIND_AT_ONCE else ("", "")
        return Moved(moved + reminded, {"moved": moved, "reminded": reminded})

    def reset(self) -> None:
        """Look from the beginning once."""
        self._after = ("", "")
