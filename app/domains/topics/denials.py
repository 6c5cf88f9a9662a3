"""Refused calls of the whole API in the audit log: gathered, then written in few entries, so that no flood fills it.

Not for permissions on topics: those are written one by one, by who asks for them (gate.py).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from app import events
from app.api.facts import Denied
from app.domains.topics import repository
from app.domains.topics.repository import Connection
from app.errors import OutcomeUnknown, Unavailable

EVERY = 30.0
"""Seconds between two turns of writing."""
MOST = 20
"""Kinds of refusals told apart in one turn, which is also how many entries it writes, and one for the rest."""
STRANGER = "unidentified"
"""The actor where no credential was good."""
REST = Denied("various", "", "", "")

Open = Callable[[], AbstractAsyncContextManager[Connection]]
_log = logging.getLogger(__name__)


class Denials:
    """Counts refusals by caller, address, route and reason, and writes each count as one entry."""

    def __init__(self, open_: Open, *, most: int = MOST) -> None:
        self._open = open_
        self._most = most
        self._counts: dict[Denied, int] = {}

    def note(self, denied: Denied, times: int = 1) -> None:
        """Remember it; what is too much to be told apart is counted together."""
        if denied.noted:
            return
        if denied not in self._counts and len(self._counts) >= self._most:
            denied = REST
        self._counts[denied] = self._counts.get(denied, 0) + times

    async def write(self) -> int:
        """Write what was gathered; answers how many entries. Kept for the next turn when the database is away."""
        counts, self._counts = self._counts, {}
        if not counts:
            return 0
        try:
            async with self._open() as connection, connection.transaction():
                for denied, times in counts.items():
                    await _write(connection, denied, times)
        except (Unavailable, OutcomeUnknown):
            for denied, times in counts.items():
                self.note(denied, times)  # told twice rather than not at all, where the outcome is unknown
            return 0
        return len(counts)


async def _write(connection: Connection, denied: Denied, times: int) -> None:
    facts = ("reason", "route", "permission", "address")
    await repository.write_audit(
        connection,
        actor=_plain(denied.subject, 255) or STRANGER,
        action="denied",
        topic=None,
        items=min(times, 2**31 - 1),
        detail={name: _plain(getattr(denied, name), 200) for name in facts},
    )


def _plain(text: str, most: int) -> str:
    """What PostgreSQL can store of a text that strangers may have chosen."""
    return text[:most].replace("\0", "").encode("utf-8", "replace").decode()


@asynccontextmanager
async def audited(open_: Open, *, every: float = EVERY) -> AsyncIterator[Denials]:
    """Refusals of this process get into the audit log while the block lasts, the last ones at its end."""
    denials, ending = Denials(open_), asyncio.Event()
    leave = events.subscribe(Denied, denials.note)
    writing = asyncio.create_task(_write_on(denials, ending, every))
    try:
        yield denials
    finally:
        leave()
        ending.set()  # not cancelled: what was committed meanwhile would be written again
        await writing


async def _write_on(denials: Denials, ending: asyncio.Event, every: float) -> None:
    ended = False
    while not ended:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), every)
        ended = ending.is_set()  # looked at before the writing: what comes during it has one more turn
        try:
            await denials.write()
        except Exception:
            _log.exception("refused calls could not be written into the audit log")
