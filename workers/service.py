"""The one Start/Stop shape of everything that runs in a worker; the guarded loop is written once, here."""

import asyncio
import logging
from abc import ABC, abstractmethod

from app.database.backoff import Backoff
from workers.bell import Bell, first_of


class Service(ABC):
    """Runs `run` as a task. A `run` that raises is logged and started again; only `stop` ends it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = Bell()
        self.failures = 0
        self._log = logging.getLogger(f"{__package__}.{name}")
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Work until `stopping` is set. An exception is a failure, and the service starts over."""

    def start(self) -> None:
        """Start the task, also again after a stop."""
        self.stopping.clear()
        self._task = asyncio.create_task(self._guard(), name=self.name)

    async def stop(self, grace: float = 5.0) -> None:
        """Ask `run` to end; after `grace` seconds it is cancelled."""
        self.stopping.set()
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=grace)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None

    async def _guard(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while not self.stopping.is_set():
            try:
                await self.run()
                backoff.reset()
            except Exception:
                self.failures += 1
                self._log.exception("%s failed and starts over", self.name)
                await self.pause(backoff.next())

    async def pause(self, seconds: float) -> bool:
        """Wait, but not past a stop; answers whether the service shall go on."""
        if seconds > 0 and not self.stopping.is_set():
            await first_of(seconds, self.stopping)
        return not self.stopping.is_set()
