"""The queue's clock, moved for a test: in the given sessions, in what drain opens, and where producers check times.

Only tandem.clock() moves, and only in these sessions; now() and this machine's clock stay as they are.
"""

import sys
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from app.client import job as producers
from app.client.places import AsyncPlace, SyncPlace, is_asyncpg, run, run_async
from app.client.statements import load

_READ = load(__package__, "read_clock")
_SET = load(__package__, "set_clock")
_PRODUCERS = (producers.__name__, "tandem.job")


def current_offset() -> timedelta:
    """How far the clock is moved now."""
    return producers.clock_offset


def shifted(url: str) -> str:
    """The address for connections that shall live in the moved time from their start: of an engine, of a process.

    The address itself while no clock is moved.
    """
    offset = current_offset()
    if not offset:
        return url
    parts = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
    own = f"-c tandem.clock_offset={offset / timedelta(seconds=1):.6f}s"
    return make_conninfo("", **{**parts, "options": f"{parts.get('options') or ''} {own}".strip()})


class _Moved:
    """What both clocks share: the offset, known to everybody in this process."""

    def __init__(self, at: datetime | None) -> None:
        if at is not None and at.utcoffset() is None:
            raise ValueError("`at` needs a time zone")
        self.at = at
        self.offset = timedelta(0)
        self._before = timedelta(0)

    def _setting(self) -> str:
        return f"{self.offset / timedelta(seconds=1):.6f} seconds"

    def _publish(self, offset: timedelta) -> None:
        for name in _PRODUCERS:
            module: Any = sys.modules.get(name)
            if module is not None:
                module.clock_offset = offset


class FakeClock(_Moved):
    """See `fake_clock`."""

    def __init__(self, place: SyncPlace, at: datetime | None) -> None:
        super().__init__(at)
        self._places: list[tuple[SyncPlace, str]] = [(place, "")]

    def __enter__(self) -> Self:
        self._before = current_offset()
        place = self._places[0][0]
        alone = _begins(place)
        real, _, previous = run(place, _READ, {})[0]
        _end(place, alone)
        self._places[0] = (place, previous)
        self.offset = self._before if self.at is None else self.at - real
        self._apply()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publish(self._before)
        for place, previous in self._places:
            try:
                self._set(place, previous)
            except Exception:
                if error is None and not _closed(place):
                    raise  # else the test's own failure counts, and its roll back takes the setting back

    def advance(self, by: timedelta) -> datetime:
        """Move on by a duration; answers the new time."""
        self.offset += by
        self._apply()
        return self.now()

    def move_to(self, at: datetime) -> datetime:
        """Move to a moment, also back; answers the new time."""
        return self.advance(at - self.now())

    def now(self) -> datetime:
        """The queue's time."""
        place = self._places[0][0]
        alone = _begins(place)
        moved: datetime = run(place, _READ, {})[0][1]
        _end(place, alone)
        return moved.astimezone(UTC)

    def reach(self, place: SyncPlace) -> None:
        """Let another session live in the moved time, until the block ends."""
        alone = _begins(place)
        self._places.append((place, run(place, _READ, {})[0][2]))
        _end(place, alone)
        self._set(place, self._setting())

    def _apply(self) -> None:
        self._publish(self.offset)
        for place, _ in self._places:
            self._set(place, self._setting())

    def _set(self, place: SyncPlace, setting: str) -> None:
        alone = _begins(place)
        run(place, _SET, {"setting": setting})
        _end(place, alone)


class AsyncFakeClock(_Moved):
    """See `fake_clock_async`."""

    def __init__(self, place: AsyncPlace, at: datetime | None) -> None:
        super().__init__(at)
        self._places: list[tuple[AsyncPlace, str]] = [(place, "")]

    async def __aenter__(self) -> Self:
        self._before = current_offset()
        place = self._places[0][0]
        alone = _begins(place)
        real, _, previous = (await run_async(place, _READ, {}))[0]
        await _end_async(place, alone)
        self._places[0] = (place, previous)
        self.offset = self._before if self.at is None else self.at - real
        await self._apply()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publish(self._before)
        for place, previous in self._places:
            try:
                await self._set(place, previous)
            except Exception:
                if error is None and not _closed(place):
                    raise

    async def advance(self, by: timedelta) -> datetime:
        """Move on by a duration; answers the new time."""
        self.offset += by
        await self._apply()
        return await self.now()

    async def move_to(self, at: datetime) -> datetime:
        """Move to a moment, also back; answers the new time."""
        return await self.advance(at - await self.now())

    async def now(self) -> datetime:
        """The queue's time."""
        place = self._places[0][0]
        alone = _begins(place)
        moved: datetime = (await run_async(place, _READ, {}))[0][1]
        await _end_async(place, alone)
        return moved.astimezone(UTC)

    async def reach(self, place: AsyncPlace) -> None:
        """Let another session live in the moved time, until the block ends."""
        alone = _begins(place)
        self._places.append((place, (await run_async(place, _READ, {}))[0][2]))
        await _end_async(place, alone)
        await self._set(place, self._setting())

    async def _apply(self) -> None:
        self._publish(self.offset)
        for place, _ in self._places:
            await self._set(place, self._setting())

    async def _set(self, place: AsyncPlace, setting: str) -> None:
        alone = _begins(place)
        await run_async(place, _SET, {"setting": setting})
        await _end_async(place, alone)


def fake_clock(place: SyncPlace, *, at: datetime | None = None) -> FakeClock:
    """`with fake_clock(connection, at=...) as clock:` the queue's clock is moved, and goes on from there.

    Reaches the session of `place`, every connection that `drain` opens meanwhile, and further sessions through
    `clock.reach(connection)` and `shifted(url)`. Without `at` it starts at the present. If a transaction is open when
    the clock is moved, rolling it back moves the clock of that session back, too. Raises ValueError for a time
    without zone.
    """
    return FakeClock(place, at)


def fake_clock_async(place: AsyncPlace, *, at: datetime | None = None) -> AsyncFakeClock:
    """`async with fake_clock_async(connection, at=...) as clock:` the same, with `await clock.advance(...)`."""
    return AsyncFakeClock(place, at)


def _begins(place: Any) -> bool:
    """Whether a statement would begin a transaction that nobody asked for."""
    if isinstance(place, psycopg.Connection | psycopg.AsyncConnection):
        return not place.autocommit and place.info.transaction_status == TransactionStatus.IDLE
    if not is_asyncpg(place) and not hasattr(place, "in_transaction"):
        place = place()  # SQLAlchemy's registries of sessions answer the present one
    return not is_asyncpg(place) and not place.in_transaction()


def _closed(place: Any) -> bool:
    return bool(place.is_closed() if is_asyncpg(place) else getattr(place, "closed", False))


def _end(place: Any, alone: bool) -> None:
    # The setting must survive the roll back of a transaction that the test begins later.
    if alone:
        place.commit()


async def _end_async(place: Any, alone: bool) -> None:
    if alone:
        await place.commit()
