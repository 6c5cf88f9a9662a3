"""Extends the leases this process holds, from a thread and a connection of its own.

A handler that blocks the event loop, even one that holds on to the interpreter between its bytecodes, does not
lose its lease. Never judges by this machine's clock; durations are monotonic.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Literal
from uuid import UUID

from app.database.connect import CONNECTION_LOST
from app.database.reconnecting import Open, Reconnecting
from app.queue.store import Store
from workers.inbox import Inbox

_log = logging.getLogger(__name__)
AT_ONCE = 1_000


class Heartbeat:
    """Beats every third of the lease. `on_lost` and `on_cancel` get (job, token)s, in the heartbeat's own thread."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        opener: Open,
        worker: UUID,
        lease: timedelta,
        on_lost: Callable[[list[tuple[int, int]]], None],
        on_cancel: Callable[[list[tuple[int, int]]], None],
    ) -> None:
        self.inbox = inbox
        self.worker = worker
        self.lease = lease
        self.every = lease.total_seconds() / 3
        self.beats = 0
        self.last_error: BaseException | None = None
        self._connection = Reconnecting("heartbeat", opener, most=max(0.2, self.every / 2))
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._nudge: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._ready.wait(5.0)

    def stop(self) -> None:
        """End the thread; the leases then run out by themselves."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def beat_soon(self) -> None:
        """Beat now, over all leases: somebody asked to cancel a running job. From any thread."""
        if self._loop is not None and self._nudge is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._nudge.set)

    @property
    def alive(self) -> bool:
        """Whether the thread runs; without it leases are lost, and the worker must end."""
        return self._thread.is_alive()

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception:
            _log.exception("the heartbeat ended")

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._nudge = asyncio.Event()
        self._ready.set()
        stop = asyncio.ensure_future(self._stop.wait())
        while not self._stop.is_set():
            nudged = asyncio.ensure_future(self._nudge.wait())
            await asyncio.wait([stop, nudged], timeout=self.every, return_when=asyncio.FIRST_COMPLETED)
            nudged.cancel()
            if not self._stop.is_set():
                everything = self._nudge.is_set()
                self._nudge.clear()
                await self._guarded_beat(stop, 0.0 if everything else self.every)
        await self._connection.close()

    async def _guarded_beat(self, stop: "asyncio.Task[Literal[True]]", age: float) -> None:
        while True:
            beat = asyncio.ensure_future(self._beat(age))
            await asyncio.wait([beat, stop], return_when=asyncio.FIRST_COMPLETED)
            if not beat.done():
                beat.cancel()
                await asyncio.wait([beat])
                return
            error = beat.exception()
            self.last_error = error
            if error is None:
                return
            if not isinstance(error, CONNECTION_LOST):
                _log.error("a heartbeat failed", exc_info=error)
                await (
                    self._connection.close()
                )  # a server that became read-only, say: the next beat asks another one
                return
            await self._connection.lost(
                error
            )  # and again at once: a beat that failed is a third of the lease

    async def _beat(self, age: float) -> None:
        """Extend what is older than `age`, in general one beat: short jobs never cost a heartbeat."""
        pairs = sorted(self.inbox.leases_older_than(age))
        asked_at, extended = monotonic(), set[tuple[int, int]]()
        for start in range(0, len(pairs), AT_ONCE):
            part = pairs[start : start + AT_ONCE]
            connection = await self._connection.get()
            existing = await Store(connection).extend_leases(part, lease=self.lease)
            extended.update(existing)
            still = set(self.inbox.leases_older_than(0.0))
            lost = [pair for pair in part if pair not in existing and pair in still]
            if lost:
                self._on_lost(lost)
            cancelled = [pair for pair, asked in existing.items() if asked]
            if cancelled:
                self._on_cancel(cancelled)
        self.inbox.extended = dict.fromkeys(extended, asked_at)
        await Store(await self._connection.get()).see_worker(self.worker)
        self.beats += 1
