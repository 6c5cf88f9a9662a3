"""How long to wait before trying again: exponential with full jitter, so a fleet never comes back in step."""

import random


class Backoff:
    """Waiting times in seconds between 0 and a ceiling that doubles from `first` up to `most`."""

    def __init__(self, first: float, most: float) -> None:
        if not 0 < first <= most:
            raise ValueError("a backoff needs 0 < first <= most")
        self._first = first
        self._most = most
        self._ceiling = first

    def next(self) -> float:
        """The next waiting time, drawn evenly below the ceiling; then the ceiling doubles."""
        ceiling = self._ceiling
        self._ceiling = min(self._most, ceiling * 2)
        return random.uniform(0.0, ceiling)  # noqa: S311 - spreads load, protects nothing

    def reset(self) -> None:
        """Start over: call it after a success."""
        self._ceiling = self._first
