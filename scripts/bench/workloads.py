"""The workloads W1 to W8 of the performance page, each for any peer. W9 is in http_workload.py.

A workload drives a peer's programs through a `Run` and fills in the run's line.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from scripts.bench.broker_meter import BrokerCost, RedisMeter
from scripts.bench.evidence import SECOND_STREAM, Start, lost_and_doubled, percentiles, rate, read
from scripts.bench.meter import Cost, Meter
from scripts.bench.programs import ProgramFailedError, Programs, wait_until
from scripts.bench.results import Line

EVERY = 0.020
QUEUES = 1_000
KINDS = 100
KEYS = 1_000


@dataclass
class Options:
    """What the caller asks of a workload; None takes the page's value."""

    workers: int = 1
    conns: int = 1
    jobs: int | None = None
    seconds: float | None = None
    rate: float | None = None
    variant: str | None = None
    groups: int = 1


@dataclass
class Run:
    """One measurement under way."""

    programs: Programs
    meter: Meter | RedisMeter
    options: Options
    line: Line
    observer_url: str
    before: Cost | BrokerCost | None = None

    def begin(self) -> None:
        """Start counting costs; before the first job is enqueued."""
        self.before = self.meter.read()

    def preload(self, jobs: int, **spec: Any) -> dict[str, Any]:
        """Enqueue through the bulk API, then let the planner know the tables."""
        facts = self.programs.produce("bulk", jobs=jobs, **spec)
        self.meter.run("ANALYZE")
        return facts

    def unfinished(self) -> int:
        """What the database says is left."""
        return self.meter.number(self.programs.peer.unfinished)

    def until_drained(self, jobs: int, seconds: float) -> float:
        """Wait until that many handlers have started and the database shows none unfinished; answers when.

        The moment is the one before the question: some peers' tables take long to count.
        """
        asked = 0.0

        def handled() -> bool:
            self.programs.ensure_alive()
            return self.programs.ran() >= jobs

        def drained() -> bool:
            nonlocal asked
            asked = time.time()
            return self.unfinished() == 0

        wait_until(handled, seconds)
        wait_until(drained, 10.0)
        return asked

    def end(self, *, fail_every: int = 0) -> list[Start]:
        """Stop the workers, count costs, and check by records and database that every job ran as it should."""
        line = self.line
        if self.programs.workers:
            line.rss_mb = max(worker.rss_mb() for worker in self.programs.workers)
            self.programs.stop_workers()
        enqueued = sum(int(facts["n"]) for facts in self.programs.produced)
        line.n = enqueued
        starts = read(self.programs.records)
        unfinished = self.unfinished()
        line.lost, line.doubled = lost_and_doubled(starts, enqueued, unfinished, fail_every=fail_every)
        self._check_database(enqueued, unfinished, starts)
        self._count_cost(len({one.n for one in starts}) or enqueued)
        line.detail["unfinished_at_end"] = unfinished
        if line.lost or line.doubled:
            line.void = f"{line.lost} lost, {line.doubled} doubled"
        return starts

    def _check_database(self, enqueued: int, unfinished: int, starts: list[Start]) -> None:
        """The tables must agree with what producers and handlers counted."""
        finished = self.programs.peer.finished
        kept = self.meter.number(finished) if finished else None
        self.line.detail["finished_in_database"] = kept
        ran = len({one.n for one in starts})
        if kept is not None and kept + unfinished != enqueued:
            self.line.void = f"the database has {kept} finished and {unfinished} unfinished of {enqueued}"
        elif kept is None and unfinished > enqueued - ran + self.line.workers:
            self.line.void = f"the database has {unfinished} unfinished, {ran} of {enqueued} ran"

    def _count_cost(self, jobs: int) -> None:
        if self.before is None or jobs == 0:
            return
        cost = self.meter.read().since(self.before).per_job(jobs)
        self.line.wal_bytes_per_job = cost.pop("wal_per_job")
        self.line.statements_per_job = cost.pop("statements_per_job")
        for command, name in (("produce", "producer"), ("work", "worker")):
            cost[f"{name}_cpu_us_per_job"] = self.programs.cpu(command) / jobs * 1e6
        self.line.detail |= cost


def w1(run: Run) -> None:
    """One job per committed transaction for some seconds."""
    seconds = run.options.seconds or 5.0
    run.begin()
    facts = run.programs.produce(
        "single", conns=run.options.conns, seconds=seconds, variant=run.options.variant
    )
    run.line.jobs_s = facts["n"] / facts["seconds"]
    run.end()


def w2(run: Run) -> None:
    """Jobs through the bulk API."""
    run.begin()
    jobs, copy = run.options.jobs or 20_000, run.options.variant == "copy"
    # COPY takes everything in one call, the other forms as many as the peer's documentation advises.
    batch = jobs if copy else run.programs.peer.bulk_batch
    facts = run.programs.produce("bulk", jobs=jobs, batch=batch, variant=run.options.variant)
    run.line.jobs_s = facts["n"] / facts["seconds"]
    run.end()


def w3(run: Run) -> None:
    """Drain preloaded jobs: first handler start until the database shows none unfinished."""
    jobs = run.options.jobs or 50_000
    run.begin()
    run.preload(jobs)
    run.programs.start_workers(run.options.workers, wait=False)
    end = run.until_drained(jobs, run.options.seconds or 180.0)
    starts = run.end()
    if not starts:
        raise ProgramFailedError("no handler started")
    run.line.jobs_s = jobs / (end - starts[0].at)
    if run.line.detail["unfinished_at_end"]:
        run.line.void = f"{run.line.detail['unfinished_at_end']} jobs left when the time was up"


def w4(run: Run) -> None:
    """Pickup latency of an idle worker."""
    run.programs.start_workers(run.options.workers)
    time.sleep(1.0)  # it must have fallen asleep
    run.begin()
    run.programs.produce("paced", seconds=run.options.seconds or 15.0, every=EVERY)
    run.until_drained(run.programs.produced[0]["n"], 10.0)
    _latencies(run.line, run.end())


def w5(run: Run) -> None:
    """A producer flat out beside the workers."""
    run.programs.start_workers(run.options.workers)
    run.begin()
    _flood(run, run.options.seconds or 20.0, rate=None)
    run.line.backlog = run.unfinished()
    starts = run.end()
    began, seconds = run.programs.produced[0]["began"], run.programs.produced[0]["seconds"]
    run.line.jobs_s = rate(starts, began, began + seconds)
    run.line.detail["enqueued_s"] = run.line.n / seconds


def w6(run: Run, *, fail_every: int = 0, **spec: Any) -> None:
    """W5 throttled while another connection pins the snapshot horizon: the end against the beginning."""
    seconds = run.options.seconds or 90.0
    run.programs.start_workers(run.options.workers, fail_every=fail_every)
    run.begin()
    with pinned(run.observer_url):
        _flood(run, seconds, rate=run.options.rate or 10_000, **spec)
        run.line.backlog = run.unfinished()
        wait_until(lambda: run.unfinished() == 0, 10.0, every=0.5)
    starts = run.end(fail_every=fail_every)
    began, window = run.programs.produced[0]["began"], min(10.0, seconds / 4)
    early = (began + window / 2, began + window * 1.5)
    late = (began + seconds - window, began + seconds)
    run.line.jobs_s = rate(starts, *late)
    run.line.ratio = run.line.jobs_s / max(1.0, rate(starts, *early))
    first = _first_starts(starts)
    waits = [[one.waited_ms for one in first if begin <= one.enqueued < end] for begin, end in (early, late)]
    run.line.p50_ms, run.line.p95_ms, run.line.p99_ms = percentiles(waits[1])
    run.line.detail["early_p95_ms"] = percentiles(waits[0])[1]
    run.line.detail["early_jobs_s"] = rate(starts, *early)


def w6r(run: Run) -> None:
    """W6 in which every tenth job fails once and is retried."""
    w6(run, fail_every=10)


def w6k(run: Run) -> None:
    """W6 through the admission of a managed queue whose jobs have a thousand keys."""
    run.programs.start("manage").finish(30)
    w6(run, keys=KEYS)


def w7(run: Run) -> None:
    """Drain for some seconds from a deep queue."""
    seconds = run.options.seconds or 20.0
    run.begin()
    run.preload(run.options.jobs or 500_000)
    run.programs.start_workers(run.options.workers)
    wait_until(lambda: run.programs.ran() > 0, 60.0)
    wait_until(lambda: run.programs.ran() >= run.programs.produced[0]["n"], seconds)
    starts = run.end()
    first = starts[0].at
    # A worker that is told to stop still hands back or runs what it holds: only the window counts.
    run.line.jobs_s = rate(starts, first, min(first + seconds, starts[-1].at))
    run.line.backlog = run.line.detail["unfinished_at_end"]


def scale(run: Run) -> None:
    """W3 with more worker processes, or spread over a thousand queues or a hundred kinds (the variant)."""
    jobs, variant = run.options.jobs or 50_000, run.options.variant
    spread = {"queues": QUEUES, "kinds": KINDS}.get(variant or "", 1)
    spec: dict[str, Any] = {variant: spread} if variant else {}
    run.begin()
    run.preload(jobs, **spec)
    queues = [f"q{number}" for number in range(spread)] if variant == "queues" else ["default"]
    run.programs.start_workers(run.options.workers, wait=False, queues=queues)
    end = run.until_drained(jobs, run.options.seconds or 180.0)
    starts = run.end()
    run.line.jobs_s = jobs / (end - starts[0].at) if starts else None
    if run.line.detail["unfinished_at_end"]:
        run.line.void = f"{run.line.detail['unfinished_at_end']} jobs left when the time was up"


def memory(run: Run) -> None:
    """A worker's resident memory after each tenth of a million jobs; `ratio` is the end against the second tenth."""
    jobs = run.options.jobs or 1_000_000
    part = jobs // 10
    run.programs.start_workers(run.options.workers)
    time.sleep(2.0)
    at_rest = max(worker.rss_mb() for worker in run.programs.workers)
    run.begin()
    readings = []
    for number in range(10):
        run.programs.produce("bulk", jobs=part, first=number * part)
        run.until_drained((number + 1) * part, run.options.seconds or 300.0)
        readings.append(round(max(worker.rss_mb() for worker in run.programs.workers), 1))
    starts = run.end()
    run.line.jobs_s = len(starts) / (starts[-1].at - starts[0].at) if len(starts) > 1 else None
    run.line.ratio = readings[-1] / readings[1]
    run.line.detail["rss_mb_at_rest"] = at_rest
    run.line.detail["rss_mb_by_tenth"] = readings


def w8(run: Run) -> None:
    """W4 while the same worker drains a second queue flat out."""
    seconds = run.options.seconds or 15.0
    run.begin()
    run.preload(run.options.jobs or int(seconds * 60_000), queue="busy", first=SECOND_STREAM)
    run.programs.start_workers(run.options.workers, queues=["default", "busy"])
    wait_until(lambda: run.programs.ran() > 0, 60.0)
    facts = run.programs.produce("paced", seconds=seconds, every=EVERY)
    busy_left = run.unfinished()
    starts = run.end()
    end = facts["began"] + facts["seconds"]
    _latencies(run.line, [one for one in starts if one.n < SECOND_STREAM])
    run.line.jobs_s = rate([one for one in starts if one.n >= SECOND_STREAM], facts["began"], end)
    run.line.backlog = busy_left
    if busy_left == 0:
        run.line.void = "the busy queue was empty before the end: more --jobs"


def _flood(run: Run, seconds: float, *, rate: float | None, **spec: Any) -> None:
    producer = run.programs.begin_producing("flood", seconds=seconds, rate=rate, **spec)
    run.programs.produced_by(producer, seconds + 60)
    run.programs.ensure_alive()


def _first_starts(starts: list[Start]) -> list[Start]:
    seen: set[int] = set()
    return [one for one in starts if one.n not in seen and not seen.add(one.n)]  # type: ignore[func-returns-value]


def _latencies(line: Line, starts: list[Start]) -> None:
    line.p50_ms, line.p95_ms, line.p99_ms = percentiles([one.waited_ms for one in starts])


@contextmanager
def pinned(url: str) -> Iterator[None]:
    """A snapshot that no vacuum gets past, for the length of a block."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM pg_class")
        yield
        connection.rollback()


WORKLOADS: dict[str, Callable[[Run], None]] = {
    "W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W6r": w6r, "W6k": w6k, "W7": w7, "W8": w8,
    "scale": scale, "memory": memory,
}  # fmt: skip
