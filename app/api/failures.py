"""Refused calls under control: how many come from one address, and how many of them are logged."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

MOST_ADDRESSES = 4096


class Failures:
    """Counts refused credentials by address in windows of a minute; memory is bounded, the oldest go first."""

    def __init__(self, most: int, *, seconds: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def add(self, address: str) -> None:
        """One more from this address."""
        started, count = self._window(address)
        self._windows[address] = (started, count + 1)
        self._windows.move_to_end(address)
        while len(self._windows) > MOST_ADDRESSES:
            self._windows.popitem(last=False)

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        started, count = self._window(address)
        return max(0.0, started + self._seconds - self._clock()) if count >= self._most else 0.0

    def _window(self, address: str) -> tuple[float, int]:
        now = self._clock()
        started, count = self._windows.get(address, (now, 0))
        return (now, 0) if now - started >= self._seconds else (started, count)


class Sparing:
    """Logs at most `most` lines in each window, then says how many it kept to itself."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        most: int = 10,
        seconds: float = 10.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._log = log
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._started = clock()
        self._count = 0

    def warning(self, message: str, *values: object) -> None:
        """Log it unless the window is full."""
        now = self._clock()
        if now - self._started >= self._seconds:
            if self._count > self._most:
                self._log.warning("%d more refusals were not logged", self._count - self._most)
            self._started, self._count = now, 0
        self._count += 1
        if self._count <= self._most:
            self._log.warning(message, *values)
