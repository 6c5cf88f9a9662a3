"""Doing many things at a rate: how many at a time, and how long to wait in between. Knows nothing of jobs."""

import asyncio
from time import monotonic

from app.errors import InvalidInput

TURNS_PER_SECOND = 5


class Pace:
    """At most `rate` per second, measured from the start; None is as fast as it goes. Raises InvalidInput."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not 0 < rate <= 1_000_000:
            raise InvalidInput("invalid-rate", f"a rate is more than 0 per second, not {rate:g}")
        self.rate = rate
        self._done = 0
        self._started = monotonic()

    def batch(self, most: int) -> int:
        """How many to do now, at most `most`: small enough that the rate is even."""
        return most if self.rate is None else max(1, min(most, int(self.rate / TURNS_PER_SECOND)))

    async def spent(self, count: int) -> None:
        """`count` more are done: wait until the rate allows the next one."""
        self._done += count
        if self.rate is not None:
            await asyncio.sleep(max(0.0, self._started + self._done / self.rate - monotonic()))
