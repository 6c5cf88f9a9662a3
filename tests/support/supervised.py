"""A whole worker inside the test's own event loop: quick to start, easy to look into, not to be killed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from app.config import DatabaseSettings, Settings, SweeperSettings, WorkerSettings
from app.queue.kinds import Registry
from workers.supervisor import Supervisor
from workers.sweeper.reconcile import Reconciler

QUICK: dict[str, Any] = {"queues": {"default": 1}, "slots": 10, "lease_seconds": 5.0, "drain_seconds": 5.0}
QUICK_SWEEP: dict[str, Any] = {"every_seconds": 0.1, "leader_lease_seconds": 2.0}


def quick_settings(
    *, sweeper: dict[str, Any] | None = None, database: DatabaseSettings | None = None, **worker: Any
) -> Settings:
    """Settings for tests: short leases, a busy sweeper; keywords change those of the worker."""
    return Settings(
        database=database or DatabaseSettings(),
        worker=WorkerSettings(**{**QUICK, **worker}),
        sweeper=SweeperSettings(**{**QUICK_SWEEP, **(sweeper or {})}),
    )


@asynccontextmanager
async def supervised(
    url: str,
    registry: Registry,
    *,
    sweep: bool = False,
    reconcilers: Sequence[Reconciler] = (),
    sweeper: dict[str, Any] | None = None,
    database: DatabaseSettings | None = None,
    **worker: Any,
) -> AsyncIterator[Supervisor]:
    """A started worker for the length of a block; it drains at the end."""
    settings = quick_settings(sweeper=sweeper, database=database, **worker)
    supervisor = Supervisor(settings, url, registry, sweep=sweep, reconcilers=reconcilers)
    running = asyncio.create_task(supervisor.run())
    started = asyncio.create_task(supervisor.started.wait())
    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED, timeout=30)
    started.cancel()
    try:
        yield supervisor
    finally:
        supervisor.ask_to_stop()
        async with asyncio.timeout(60):
            await running
