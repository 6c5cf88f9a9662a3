"""Where to look for ready jobs: per lane, the fast floor of this process and the shared safe floor.

Behind the fast floor lie rows that are dead but not yet vacuumed, and rows that were committed late; the probe of
[safe, fast) finds the latter. Floors live in memory only: a reconnect forgets them, because a position that was
never flushed is given out again after a server crash.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from time import monotonic

from app.queue.job import PRIORITIES, ClaimedJob
from app.queue.store import Lane

END = 2**63 - 1
PART = 100
"""Queues in one claim statement: a thousand in one cost 19 ms of the client and 15 ms of the server, work or none."""
FEW = 20
"""Jobs in a claim that is too small to tell what the share of a queue is."""
LIVELY = 1.0
"""Seconds after a job of another queue during which a flooded one is claimed in small parts."""


class Floors:
    """The floors of the lanes that one process claims from.

    Every look takes the queues in a random order that follows their weights, so that queues which all have work
    share the claims by weight; inside a queue the highest priority comes first. Queues that have less than their share
    come before those that have more: one flooded queue does not make the jobs of the others wait for its batches.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.queues = tuple(weights)
        self._weights = dict(weights)
        self._fast: dict[tuple[str, int], int] = {}
        self._safe: dict[tuple[str, int], int] = {}
        self._flooded: set[str] = set()
        self._others_at = -inf
        """When jobs of other queues last came between those of a flooded one."""

    def forget(self) -> None:
        """Start from the beginning: the connection or the server is another one."""
        self._fast.clear()
        self._safe.clear()

    def passed(self, jobs: Iterable[ClaimedJob]) -> None:
        """Raise the fast floors behind what was claimed; in each lane, the last job has the highest position."""
        fast = self._fast
        for lane, position in {(job.queue, job.priority): job.position for job in jobs}.items():
            if position >= fast.get(lane, 0):
                fast[lane] = position + 1

    def learn(self, jobs: Sequence[ClaimedJob], want: int) -> list[ClaimedJob]:
        """Note which queues have more than their share; answers the jobs of others that came in the same full claim."""
        if len(self.queues) == 1 or (len(jobs) >= want and want < FEW):
            return []  # a few jobs tell nothing of shares
        if len(jobs) < want:
            self._flooded.clear()
            return []
        total = sum(self._weights.values())
        counts = Counter(job.queue for job in jobs)
        self._flooded.update(q for q, n in counts.items() if n * total > len(jobs) * self._weights[q])
        others = [job for job in jobs if job.queue not in self._flooded]
        if others:
            self._others_at = monotonic()
        return others

    def batch(self, most: int) -> int:
        """How many to claim at once: less while some queues are flooded and others wait for the claim under way.

        Half as long as nothing comes in the others, then a quarter: small claims cost the flooded queue some speed.
        """
        if not 0 < len(self._flooded) < len(self.queues):
            return most
        part = 4 if monotonic() - self._others_at < LIVELY else 2
        return min(most, max(FEW, most // part))

    def step_back(self, jobs: Iterable[ClaimedJob]) -> None:
        """Lower the fast floors to just behind these: more rows may lie there than the probe had room for."""
        for job in jobs:
            lane = (job.queue, job.priority)
            self._fast[lane] = min(self._fast.get(lane, 0), job.position + 1)

    def settle(self, safe: Mapping[tuple[str, int], int]) -> None:
        """Take over newer safe floors; they only grow."""
        for lane, floor in safe.items():
            if floor > self._safe.get(lane, 0):
                self._safe[lane] = floor

    def parts(self) -> Iterator[Sequence[str]]:
        """All queues in the order of one look, some at a time: a claim names ten lanes for each of its queues."""
        queues = self.in_turn()
        for start in range(0, len(queues), PART):
            yield queues[start : start + PART]

    def ahead(self, queues: Sequence[str] | None = None) -> list[Lane]:
        """Lanes from the fast floors on: the cheap look for new rows."""
        fast, safe = self._fast, self._safe
        return [Lane(*lane, max(fast.get(lane, 0), safe.get(lane, 0)), END) for lane in self._lanes(queues)]

    def everything(self, queues: Sequence[str] | None = None) -> list[Lane]:
        """Lanes from the safe floors on: what a sleeper must look at before it may sleep."""
        return [Lane(*lane, self._safe.get(lane, 0), END) for lane in self._lanes(queues)]

    def behind(self) -> list[Lane]:
        """The gaps [safe, fast) where rows that committed late may lie; empty when there are none."""
        gaps = ((lane, self._safe.get(lane, 0), self._fast.get(lane, 0)) for lane in self._lanes())
        return [Lane(*lane, safe, fast) for lane, safe, fast in gaps if safe < fast]

    def _lanes(self, queues: Sequence[str] | None = None) -> list[tuple[str, int]]:
        chosen = self.in_turn() if queues is None else queues
        return [(queue, priority) for queue in chosen for priority in reversed(PRIORITIES)]

    def in_turn(self) -> Sequence[str]:
        """The queues in a random order that follows their weights."""
        if len(self.queues) == 1:
            return self.queues
        # Weighted sampling without replacement: Efraimidis and Spirakis, 2006.
        keys = {queue: random.random() ** (1 / self._weights[queue]) for queue in self.queues}  # noqa: S311 - no secret
        flooded = self._flooded
        return sorted(self.queues, key=lambda queue: (queue not in flooded, keys[queue]), reverse=True)
