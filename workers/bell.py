"""A flag that coroutines wait for, several at once: one future for a wait, where asyncio.Event takes a task each.

What wakes an idle worker goes through here: every turn of the event loop between a notification and the claim counts.
"""

import asyncio


class Bell:
    """As asyncio.Event: `set` stays until `clear`. For one event loop, not for threads."""

    __slots__ = ("_rung", "_waiters")

    def __init__(self) -> None:
        self._rung = False
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Whether it was rung and not cleared since."""
        return self._rung

    def set(self) -> None:
        """Ring: everybody who waits goes on."""
        self._rung = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Wait for the next ring."""
        self._rung = False

    @property
    def waiting(self) -> int:
        """How many wait for it now."""
        return len(self._waiters)

    async def wait(self) -> None:
        """Until it rings; at once when it has."""
        await first_of(None, self)


async def first_of(seconds: float | None, *bells: Bell) -> None:
    """Until one of the bells rings or the time is over (None: no end), whichever comes first."""
    if any(bell.is_set() for bell in bells):
        return
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    timer = None if seconds is None else loop.call_later(seconds, _over, waiter)
    for bell in bells:
        bell._waiters.append(waiter)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for bell in bells:
            bell._waiters.remove(waiter)


def _over(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
