"""Which runs fit in some minutes: an estimate of each from its peer's pace, and the longest forms that fit.

The workloads of REPEATED are run often for medians, the others once.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scripts.bench.catalogue import Peer
from scripts.bench.plan import JOBS_OF_PAGE, QUICK, SECONDS_OF_PAGE, SHORT, Step, plan

WORKLOADS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")
REPEATED = ("W1", "W2", "W3", "W4", "W5")
# A database or broker, the schema, the start and the end of programs.
AROUND_SECONDS = 4.0
OTHERS_SECONDS = 60.0
SPARE = 0.9
_PAGE: Mapping[str, Mapping[str, float]] = {}
FORMS: tuple[tuple[str, Mapping[str, Mapping[str, float]]], ...] = (
    ("the page's", _PAGE),
    ("short", SHORT),
    ("quick", QUICK),
)


@dataclass(frozen=True)
class Budget:
    """The runs that fit, and what they are in words."""

    steps: list[Step]
    seconds: float
    text: str


def estimate(step: Step) -> float:
    """Seconds that a run takes on a quiet machine of two cores, roughly."""
    pace, options, workload = step.peer.pace, step.options, step.workload
    jobs = options.jobs or JOBS_OF_PAGE.get(workload, 0)
    seconds = options.seconds or SECONDS_OF_PAGE.get(workload, 0.0)
    if workload == "W3":
        seconds = jobs / pace.drains
    elif workload in ("W6", "W6r", "W6k"):
        seconds += 10.0  # what is left is waited for
    elif workload not in SECONDS_OF_PAGE and workload != "W2":
        return OTHERS_SECONDS
    return AROUND_SECONDS + jobs / pace.enqueues + seconds


def fitting(peers: Sequence[Peer], workloads: Sequence[str] | None, *, repeat: int, minutes: float) -> Budget:
    """The longest forms, most often repeated (at most `repeat`), that fit; else what comes first of the quick ones."""
    chosen = tuple(workloads or WORKLOADS)
    for name, lengths in FORMS:
        for times in range(max(1, repeat), 0 if lengths is QUICK else min(1, repeat - 1), -1):
            steps = list(_steps(peers, chosen, times, lengths))
            seconds = sum(map(estimate, steps))
            if seconds <= minutes * 60 * SPARE:
                often = ", ".join(one for one in chosen if one in REPEATED)
                once = ", ".join(one for one in chosen if one not in REPEATED)
                words = [f"{often} {times} times" if times > 1 else f"{often} once"] if often else []
                words += [f"{once} once"] if once else []
                return _budget(steps, seconds, f"{name} forms, {'; '.join(words)}")
    steps = list(_steps(peers, chosen, 1, QUICK))
    return _budget(steps, sum(map(estimate, steps)), "quick forms once, until the time is up")


def within(steps: Iterable[Step], minutes: float, left_out: list[Step]) -> Iterator[Step]:
    """The steps one after the other while there is time for the next; the others are added to `left_out`."""
    end = time.monotonic() + minutes * 60
    for step in steps:
        if time.monotonic() + estimate(step) > end:
            left_out.append(step)
        else:
            yield step


def _steps(
    peers: Sequence[Peer], workloads: Sequence[str], times: int, lengths: Mapping[str, Mapping[str, float]]
) -> Iterator[Step]:
    for workload in workloads:
        yield from plan(peers, [workload], repeat=times if workload in REPEATED else 1, lengths=lengths)


def _budget(steps: list[Step], seconds: float, text: str) -> Budget:
    return Budget(steps, seconds, f"{text}: {len(steps)} runs, about {math.ceil(seconds / 60)} minutes")
