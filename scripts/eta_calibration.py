"""How honest is the ETA? Simulates queues on a clock of their own, asks tandem.eta_band what it would have said at each
arrival, and counts how often the truth fell into the 80 % band. No real time passes.

Usage: .venv/bin/python -m scripts.eta_calibration [--jobs N] [--seed N] [--limit-jobs N]
Limits are simulated by the real admission (scripts/limit_calibration.py); --limit-jobs 0 leaves them out.
"""

import argparse
import asyncio
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import psycopg

from app.config import CHECKOUT
from app.database import embedded, migrate
from scripts.limit_calibration import calibrate_limits

WINDOW = 600.0
BANDS = """
SELECT b.expected, b.low, b.high, f.low, f.high
FROM unnest(%s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::bigint[], %s::float8[], %s::float8[])
    WITH ORDINALITY AS u(starts, servers, mean, deviation, tries, own, own_deviation, ord)
CROSS JOIN LATERAL tandem.eta_band(u.starts, u.servers, u.mean, u.deviation, u.tries) AS b
CROSS JOIN LATERAL tandem.finish_band(b.expected, b.low, b.high, u.own, u.own_deviation) AS f ORDER BY u.ord
"""
Run = Callable[[random.Random], float]


@dataclass(frozen=True)
class Workload:
    """How jobs come, how long they run, how many run at once, and how often a try fails and comes back."""

    name: str
    servers: int
    gaps: Callable[[random.Random], Iterator[float]]
    runs: tuple[Run, ...]
    retries: float = 0.0


@dataclass
class Question:
    """What was known when a job came, of its queue and of its own kind, and when it then started and ended."""

    starts: float
    servers: float
    mean: float
    deviation: float
    tries: int
    own: float
    own_deviation: float
    waited: float = math.nan
    finished: float = math.nan


@dataclass
class Window:
    """Tries of the last ten minutes."""

    ended: deque[tuple[float, float]] = field(default_factory=deque)
    total: float = 0.0
    squares: float = 0.0

    def add(self, at: float, run: float) -> None:
        """One more, and forget the oldest ones."""
        self.ended.append((at, run))
        self.total, self.squares = self.total + run, self.squares + run * run
        while self.ended[0][0] < at - WINDOW:
            _, old = self.ended.popleft()
            self.total, self.squares = self.total - old, self.squares - old * old

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        count = len(self.ended)
        mean = self.total / count
        return mean, math.sqrt(max(0.0, self.squares / count - mean * mean))


def ask(everything: Window, own: Window, ahead: int, running: int, servers: int) -> Question | None:
    """The question of a job that comes now; None while there are too few samples."""
    if len(everything.ended) < 20 or not own.ended:
        return None
    starts = max(0, ahead + 1 - max(0, servers - running))
    return Question(starts, servers, *everything.moments, len(everything.ended), *own.moments)


def simulate(workload: Workload, jobs: int, randomness: random.Random) -> list[Question]:
    """Run the workload; answers the question of every job that had to wait."""
    window, asked = Window(), list[Question]()
    own = [Window() for _ in workload.runs]
    waiting: deque[tuple[float, float, int, Question | None]] = deque()
    running: list[tuple[float, float, int]] = []
    coming: list[tuple[float, float, int]] = []  # retries
    gaps, now, next_at, left = workload.gaps(randomness), 0.0, 0.0, jobs
    while left or coming or waiting:
        moments = [running[0][0] if running else math.inf, coming[0][0] if coming else math.inf]
        now = min([*moments, next_at if left else math.inf])
        if running and running[0][0] == now:
            _, run, kind = heapq.heappop(running)
            window.add(now, run)
            own[kind].add(now, run)
            if randomness.random() < workload.retries:
                heapq.heappush(coming, (now + 2.0, run, kind))
        else:
            first = left and now == next_at
            if first:
                kind = randomness.randrange(len(workload.runs))
                run = workload.runs[kind](randomness)
            else:
                _, run, kind = heapq.heappop(coming)
            question = ask(window, own[kind], len(waiting), len(running), workload.servers)
            waiting.append((now, run, kind, question))
            if first:
                left, next_at = left - 1, now + next(gaps)
        while waiting and len(running) < workload.servers:
            came, run, kind, question = waiting.popleft()
            if question is not None and question.starts > 0:
                question.waited, question.finished = now - came, now + run - came
                asked.append(question)
            heapq.heappush(running, (now + run, run, kind))
    return asked


def steady(rate: float) -> Callable[[random.Random], Iterator[float]]:
    """Arrivals by chance, `rate` a second on average."""
    return lambda randomness: iter(lambda: randomness.expovariate(rate), None)


def bursts(size: int, every: float) -> Callable[[random.Random], Iterator[float]]:
    """`size` jobs at once, every so often."""

    def gaps(randomness: random.Random) -> Iterator[float]:
        while True:
            yield from [0.0] * (size - 1)
            yield randomness.expovariate(1 / every)

    return gaps


def lognormal(mean: float, spread: float) -> Run:
    """Runs as real ones are: most short, some long; `spread` is the standard deviation over the mean."""
    sigma2 = math.log(1 + spread * spread)
    return lambda randomness: randomness.lognormvariate(math.log(mean) - sigma2 / 2, math.sqrt(sigma2))


WORKLOADS = (
    Workload("steady", 4, steady(3.9), (lognormal(1.0, 0.5),)),
    Workload("bursty", 8, bursts(200, 30.0), (lognormal(1.0, 1.0),)),
    Workload(
        "several kinds", 6, bursts(100, 40.0), (lognormal(0.2, 0.5), lognormal(1.0, 1.0), lognormal(5.0, 0.7))
    ),
    Workload("retries", 4, bursts(80, 30.0), (lognormal(1.0, 0.8),), retries=0.15),
)


def judge(connection: psycopg.Connection[tuple[float, ...]], asked: list[Question]) -> dict[str, float]:
    """How often the truth fell into the band, and by how much the expectation was off (median, relative)."""
    names = ("starts", "servers", "mean", "deviation", "tries", "own", "own_deviation")
    told = connection.execute(BANDS, [[getattr(one, name) for one in asked] for name in names]).fetchall()
    pairs = list(zip(asked, told, strict=True))
    count = len(asked)
    off = [abs(one.waited - expected) / max(expected, 1e-9) for one, (expected, *_) in pairs]
    return {
        "jobs": count,
        "in_band": round(sum(low <= one.waited <= high for one, (_, low, high, *_) in pairs) / count, 3),
        "above": round(sum(one.waited > high for one, (_, _, high, *_) in pairs) / count, 3),
        "finish_in_band": round(
            sum(low <= one.finished <= high for one, (*_, low, high) in pairs) / count, 3
        ),
        "median_error": round(median(off), 3),
    }


def calibrate(
    connection: psycopg.Connection[tuple[float, ...]], jobs: int, seed: int
) -> dict[str, dict[str, float]]:
    """Every workload's figures."""
    figures = {}
    for one in WORKLOADS:
        asked = simulate(one, jobs, random.Random(seed))  # noqa: S311 - no secret
        figures[one.name] = judge(connection, asked)
    return figures


async def under_limits(url: str, jobs: int, seed: int) -> dict[str, float]:
    """The figures under a global limit and one of a kind."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await calibrate_limits(connection, jobs, seed)


def main() -> None:
    """Print a JSON object with the figures of each workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-jobs", type=int, default=2_000)
    options = parser.parse_args()
    with embedded.running(CHECKOUT) as url:
        migrate.upgrade(url)
        with psycopg.connect(url, autocommit=True) as connection:
            figures = calibrate(connection, options.jobs, options.seed)
        if options.limit_jobs:
            figures["limits"] = asyncio.run(under_limits(url, options.limit_jobs, options.seed))
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
