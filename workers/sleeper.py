"""The LISTEN connection of a worker: hears what wakes it, holds the locks that say it sleeps, and wakes others instead.

A wake-up tells two sleepers of a queue, so whoever is told answers for the jobs: it looks, or tells others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

import psycopg

from app.database.connect import CONNECTION_LOST, is_pooled
from app.database.listener import Listener
from app.database.reconnecting import Open, Reconnecting
from app.queue import wake
from app.queue.sleep_store import Place, SleepStore
from workers.bell import Bell
from workers.service import Service

LISTEN_CHECK = 10.0


class Sleeper(Service):
    """Keeps the LISTEN connection: opens it again when it fails, checks it, and holds the sleeping locks on it."""

    def __init__(self, opener: Open, on_cancel: Callable[[], None]) -> None:
        super().__init__("listener")
        self._on_cancel = on_cancel
        self.heard = Bell()
        self._told: set[str] = set()
        """The queues on whose account it was told since `hear_out`."""
        self._channels: dict[str, str] = {}
        """The queue of each seat's channel."""
        self.interrupted = False
        """Set when the connection failed during a sleep: its lock is gone, so the sleep must end."""
        self.deaf = False
        """Set when the only way to the server is a transaction pooler, which passes no notifications on."""
        self._connection = Reconnecting("listener", opener)
        self._listener: Listener | None = None
        self._places: list[Place] = []
        self._seated: tuple[str, ...] = ()
        """The queues on which we are told before others, and so have to tell others."""
        self._asleep = False

    async def run(self) -> None:
        """Hold one listening connection for as long as it lasts."""
        connection = await self._connection.get()
        if is_pooled(connection):
            await self._go_without()
            return
        listener, lost = Listener(connection, self._hear), None
        try:
            self._places = []
            async with listener.talking():
                await listener.listen([wake.CANCEL_CHANNEL])
            self._listener = listener
            while not self.stopping.is_set():
                failed = asyncio.ensure_future(listener.failed.wait())
                stopped = asyncio.ensure_future(self.stopping.wait())
                done, pending = await asyncio.wait(
                    (failed, stopped), timeout=LISTEN_CHECK, return_when=asyncio.FIRST_COMPLETED
                )
                for one in pending:
                    one.cancel()
                if failed in done or (not done and self._places and not await listener.check(5.0)):
                    lost = "the LISTEN connection failed"
                    break
        except CONNECTION_LOST as error:
            lost = str(error)
        finally:
            self._listener = None
            self.interrupted, self._asleep = True, False
            await listener.close()
            self.heard.set()  # whoever sleeps must look for itself
        if lost is None:
            await self._connection.close()
        else:
            await self._connection.lost(psycopg.OperationalError(lost))

    async def _go_without(self) -> None:
        """LISTEN and sleeping locks would stay with a server process that other clients get next."""
        self._log.warning(
            "the address leads through a transaction pooler: nothing wakes this worker, it looks every %g to %g s; "
            "set DATABASE_LISTEN_URL to a direct address of the server",
            wake.RECHECKS[1],
            wake.STEADY,
        )
        self.deaf = True
        await self._connection.close()
        await self.stopping.wait()

    def _hear(self, channel: str) -> None:
        if channel == wake.CANCEL_CHANNEL:
            self._on_cancel()
            return
        queue = self._channels.get(channel)
        self._told.update(self._seated if queue is None else (queue,))
        self.heard.set()

    def hear_out(self) -> set[str]:
        """The queues of which it was told since the last time, and quiet again: whoever asks answers for them now."""
        told, self._told = self._told, set()
        self.heard.clear()
        return told

    async def lie_down(self, queues: tuple[str, ...]) -> bool:
        """Announce that we sleep; False when that is not possible now, and only polling helps."""
        listener, self.interrupted = self._listener, False
        if listener is None:
            return False
        try:
            async with listener.talking() as connection:
                store = SleepStore(connection)
                if not self._places:
                    await self._move_in(store, listener, queues)
                self._asleep = await store.lie_down(self._places)
        except psycopg.Error as error:  # any: LISTEN may be refused, for instance by a standby
            self._log.warning("cannot announce the sleep: %s", error)
            listener.failed.set()
            return False
        return self._asleep

    async def _move_in(self, store: SleepStore, listener: Listener, queues: tuple[str, ...]) -> None:
        """Find this session's lanes and seats, and listen there."""
        self._seated = queues if len(queues) <= wake.SEATED_QUEUES else ()
        await store.notice_death()
        seats, lanes = await store.take_seats(self._seated), await store.find_lanes(queues)
        self._channels = {seat.channel: seat.queue for seat in seats}
        await listener.listen([*self._channels, *map(wake.channel, lanes)])
        seatless = [] if len(seats) == len(queues) else [Place(wake.LANES + lane) for lane in lanes]
        self._places = [*(seat.place for seat in seats), *seatless, *map(Place, lanes)]

    async def get_up(self, *, tell: Collection[str] = ()) -> None:
        """Take the announcement back; a failed connection has taken it back by itself. `tell`: as `tell_others`."""
        if not self._asleep:
            await self.tell_others(tell)
            return
        self._asleep = False
        others = self._answers_for(tell)
        await self._say(lambda store: store.get_up(self._places, tell=others))

    async def tell_others(self, queues: Collection[str]) -> None:
        """Wake two others on these queues: there may be jobs that we were told of, or saw, and have no room for."""
        if others := self._answers_for(queues):
            await self._say(lambda store: store.wake_queues(others))

    def _answers_for(self, queues: Collection[str]) -> list[str]:
        return sorted(queue for queue in queues if queue in self._seated)

    async def _say(self, what: Callable[[SleepStore], Awaitable[object]]) -> None:
        listener = self._listener
        if listener is None:
            return
        try:
            async with listener.talking() as connection:
                await what(SleepStore(connection))
        except psycopg.Error as error:
            self._log.warning("cannot tell of our sleep or its end: %s", error)
            listener.failed.set()
