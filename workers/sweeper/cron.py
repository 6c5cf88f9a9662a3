"""Makes the jobs of cron ticks that have come, and publishes the schedules that this process has in its code."""

from app.database.deadline import BoundedAsyncConnection
from app.queue.kinds import Registry
from app.queue.schedules import declare_schedules, fire_schedules
from workers.sweeper.step import Moved, Step


class FireSchedules(Step):
    """Looks at the clock each second; ticks are exactly once even while two processes believe that they lead."""

    name = "cron"

    def __init__(self, registry: Registry, *, every: float = 1.0) -> None:
        self.registry = registry
        self.every = every
        self._declared = False

    async def run_once(self, connection: BoundedAsyncConnection) -> Moved:
        """Declare at the first turn, then fire what has come."""
        if not self._declared:
            await declare_schedules(connection, self.registry.schedules)
            self._declared = True
        fired = await fire_schedules(connection)
        return Moved(fired.ticks, {"failed": fired.failed})
