"""Reads what handlers wrote down: which job started how often and when, and what that says about a run."""

import array
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Numbers of jobs of a second stream in the same run start here.
SECOND_STREAM = 1_000_000_000


@dataclass(frozen=True)
class Start:
    """One handler start; times in seconds since 1970, `enqueued` just before the enqueue call."""

    n: int
    at: float
    enqueued: float

    @property
    def waited_ms(self) -> float:
        """From the enqueue call to the handler."""
        return (self.at - self.enqueued) * 1000


def read(files: Iterable[Path]) -> list[Start]:
    """All starts of all workers in the order of time."""
    starts: list[Start] = []
    for file in files:
        values = array.array("d")
        values.frombytes(file.read_bytes())
        starts += [Start(int(values[i]), values[i + 1], values[i + 2]) for i in range(0, len(values), 3)]
    return sorted(starts, key=lambda one: one.at)


def lost_and_doubled(
    starts: Sequence[Start], enqueued: int, unfinished: int, *, fail_every: int = 0
) -> tuple[int, int]:
    """(jobs that neither ran nor wait, starts that should not have been).

    With `fail_every` each such job fails once and has to run twice; while jobs wait it may still be before its second.
    """
    runs = Counter(one.n for one in starts)
    doubled = lost = 0
    for n, count in runs.items():
        twice = fail_every and n % fail_every == 0
        doubled += max(0, count - (2 if twice else 1))
        if twice and count == 1 and unfinished == 0:
            lost += 1
    return lost + max(0, enqueued - len(runs) - unfinished), doubled


def percentiles(waits: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99; NaN-free: zeros when there is nothing."""
    if len(waits) < 2:
        return (waits[0],) * 3 if waits else (0.0, 0.0, 0.0)
    cuts = statistics.quantiles(waits, n=100)
    return cuts[49], cuts[94], cuts[98]


def rate(starts: Sequence[Start], begin: float, end: float) -> float:
    """Starts per second within a window of time."""
    return sum(1 for one in starts if begin <= one.at < end) / (end - begin)
