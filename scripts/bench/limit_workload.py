"""The workloads L1 to L4 of managed queues: exact limits, fair shares, what many keys cost, strict order. Tandem alone.

Workers are killed with SIGKILL on the way; what happened is read from the rows (L1), from what handlers wrote down
(L2, L4), and from the time of each admission (L3).
"""

import asyncio
import random
import secrets
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.queue.admission_store import AdmissionStore
from app.queue.store import PINNED_PLANS, Finish
from scripts.bench.evidence import percentiles
from scripts.bench.programs import wait_until
from scripts.bench.workloads import Run

KEY_LIMITS = 5
GLOBAL_LIMIT = 40
LEASE_SECONDS = 5.0
SMALL_KEYS, SMALL_JOBS = 99, 20
WANT = 50
COPY = "COPY pg_temp.tandem_copy (kind, payload, partition_key) FROM STDIN"
OBSERVE = """
SELECT (SELECT count(*) FROM tandem.lease WHERE worker = ANY (%(alive)s)), (SELECT count(*) FROM tandem.lease),
       (SELECT coalesce(max(l.jobs - k.max_running), 0)
        FROM (SELECT partition_key, count(*) AS jobs FROM tandem.lease GROUP BY 1) AS l
        JOIN tandem.key AS k ON k.queue = 'default' AND k.partition_key = l.partition_key),
       (SELECT count(*) FROM (SELECT FROM tandem.blocked LIMIT %(enough)s) AS b)
"""
ALIVE = "SELECT id, name FROM tandem.worker"


def l1(run: Run) -> None:
    """Limits of keys and a global one under workers that are killed: overshoot, leaks, utilisation."""
    jobs, workers = run.options.jobs or 20_000, max(2, run.options.workers if run.options.workers > 1 else 8)
    keys = max(20, min(200, jobs // 20))
    with psycopg.connect(run.programs.url, autocommit=True) as connection:
        connection.execute(
            "SELECT tandem.manage_queue('default'), tandem.set_limit('global', %s)", (GLOBAL_LIMIT,)
        )
        for key in range(keys):
            connection.execute(
                "SELECT tandem.set_limit(%s, %s)", (f"key:default/k{key}", 1 + key % KEY_LIMITS)
            )
        load(connection, [f"k{n % keys}" for n in range(jobs)])
    options: dict[str, Any] = {
        "run_ms": 50,
        "slots": 2 * GLOBAL_LIMIT // workers,
        "lease_seconds": LEASE_SECONDS,
    }
    run.programs.start_workers(workers, **options)
    run.line.workers = workers
    with watching(run) as watch, killing(run, run.options.seconds or 8.0, **options) as killed:
        began = time.time()
        wait_until(lambda: run.unfinished() == 0, 60 + jobs / 100, every=0.2)
        seconds = time.time() - began
    leases = run.meter.number("SELECT count(*) FROM tandem.lease")
    _finish(run, jobs, seconds)
    run.line.detail |= {
        "max_overshoot": watch.overshoot,
        "leaked_slots": leases,
        "utilisation": watch.utilisation(),
        "samples": watch.samples,
        "killed": len(killed),
        "keys": keys,
    }


def l2(run: Run) -> None:
    """One key floods, many send a little: shares while all wait, and the waits of the small ones against no flood."""
    flood = run.options.jobs or 100_000
    waits = []
    for keys in ([f"s{n % SMALL_KEYS}" for n in range(SMALL_KEYS * SMALL_JOBS)],):
        waits.append(_contend(run, [], keys, "alone"))
        waits.append(_contend(run, ["flood"] * flood, keys, "flooded"))
    (alone, _), (flooded, jain) = waits
    run.line.p50_ms, run.line.p95_ms, run.line.p99_ms = percentiles(flooded)
    run.line.ratio = run.line.p95_ms / percentiles(alone)[1]
    run.line.detail |= {
        "jain_index": jain,
        "small_p95_ms_alone": percentiles(alone)[1],
        "wait_ratio": run.line.ratio,
    }


def _contend(run: Run, flood: Sequence[str], small: Sequence[str], name: str) -> tuple[list[float], float]:
    """Waits of the small keys' jobs in ms, and Jain's index over all keys until one of them has had all its jobs."""
    journal = run.programs.place / f"journal-{name}"
    with psycopg.connect(run.programs.url, autocommit=True) as connection:
        connection.execute("SELECT tandem.manage_queue('default')")
        load(connection, flood)
        run.programs.start_workers(1, run_ms=5, slots=20, journal=str(journal))
        wait_until(lambda: not flood or len(starts(journal)) > 200, 60.0, every=0.1)
        asked = time.time()
        load(connection, small)
    wait_until(lambda: sum(key != "flood" for key, *_ in starts(journal)) >= len(small), 120.0, every=0.2)
    run.programs.stop_workers()
    run.programs.workers.clear()
    # All keys wait from the first start of a small one on, until one of them has had all its jobs.
    contended = min(at for key, _, at in starts(journal) if key != "flood")
    had: dict[str, int] = defaultdict(int)
    waits, share = [], None
    for key, _, at in starts(journal):
        if at < asked:
            continue
        had[key] += at >= contended
        if key != "flood":
            waits.append((at - asked) * 1000)
            if had[key] == SMALL_JOBS and share is None:
                share = list(had.values())
    counts = share or [0]
    with psycopg.connect(run.programs.url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE tandem.blocked, tandem.touch, tandem.turn, tandem.admission, tandem.lease"
        )
    return waits, sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


def l3(run: Run) -> None:
    """Admissions and finishes on one connection over a deep backlog: what 1,000 and 10,000 keys cost beside one."""
    jobs, seconds = run.options.jobs or 1_000_000, run.options.seconds or 10.0
    figures: dict[int, tuple[float, float, float]] = {}
    for keys in (1, 1_000, 10_000):
        with psycopg.connect(run.programs.url, autocommit=True) as connection:
            connection.execute(
                "TRUNCATE tandem.blocked, tandem.touch, tandem.turn, tandem.admission, tandem.lease"
            )
            connection.execute("SELECT tandem.manage_queue('default')")
            load(connection, [f"k{n % keys}" for n in range(jobs)])
            connection.execute("ANALYZE")
        figures[keys] = asyncio.run(_admit_for(run.programs.url, seconds))
    line = run.line
    line.n, line.jobs_s, line.p95_ms = jobs, *figures[10_000][:2]
    line.ratio = figures[10_000][0] / figures[1][0]
    line.detail |= {f"claims_s_{keys}": found[0] for keys, found in figures.items()}
    line.detail |= {f"claim_p95_ms_{keys}": found[1] for keys, found in figures.items()}
    line.detail |= {f"heard_s_{keys}": found[2] for keys, found in figures.items()}
    line.detail |= {"p95_ratio": figures[10_000][1] / figures[1][1], "throughput_ratio": line.ratio}


async def _admit_for(url: str, seconds: float) -> tuple[float, float, float]:
    """Claims per second and the 95th percentile of one admission in ms, and the seconds until all keys were heard of.

    Each load says a word about each of its keys, of which an admission hears a thousand: before the last one was heard,
    it is the loading that is measured.
    """
    session = {**PINNED_PLANS, "synchronous_commit": "off"}
    async with await connect(url, name="bench", session=session) as connection:
        store, worker, took, claimed = AdmissionStore(connection), uuid.uuid4(), [], 0
        finished: list[Finish] = []
        opened, calls, began = time.monotonic(), 0, 0.0
        while not began or time.monotonic() < began + seconds:
            if not began and calls % 20 == 0 and not await _waits_to_be_heard(connection):
                began = time.monotonic()
            asked = time.monotonic()
            answer = await store.admit_jobs(
                "default",
                want=WANT,
                token=secrets.randbits(63),
                worker=worker,
                lease=timedelta(minutes=5),
                finished=finished,
            )
            if not answer.jobs:
                break
            calls += 1
            if began:
                took.append((time.monotonic() - asked) * 1000)
                claimed += len(answer.jobs)
            finished = [Finish(job.id, job.token, 1.0) for job in answer.jobs]
        return claimed / max(0.001, time.monotonic() - began), percentiles(took)[1], began - opened


async def _waits_to_be_heard(connection: BoundedAsyncConnection) -> bool:
    row = await (await connection.execute("SELECT EXISTS (SELECT FROM tandem.touch OFFSET 1000)")).fetchone()
    assert row is not None  # noqa: S101 - one row, always
    return bool(row[0])


def l4(run: Run) -> None:
    """Ordered keys, a tenth of the jobs fails once, workers are killed: no job starts before its predecessor ended."""
    jobs = run.options.jobs or 50_000
    keys, workers = max(10, jobs // 50), run.options.workers if run.options.workers > 1 else 4
    with psycopg.connect(run.programs.url, autocommit=True) as connection:
        connection.execute("SELECT tandem.manage_queue('default', ordered => true)")
        load(connection, [f"k{n % keys}" for n in range(jobs)])
    journal = run.programs.place / "journal"
    options: dict[str, Any] = {
        "slots": 20,
        "fail_every": 10,
        "journal": str(journal),
        "lease_seconds": LEASE_SECONDS,
    }
    run.programs.start_workers(workers, **options)
    run.line.workers = workers
    with killing(run, run.options.seconds or 5.0, **options) as killed:
        began = time.time()
        wait_until(lambda: run.unfinished() == 0, 60 + jobs / 50, every=0.2)
        seconds = time.time() - began
    _finish(run, jobs, seconds)
    run.line.detail |= {"order_violations": violations(journal), "keys": keys, "killed": len(killed)}


def violations(journal: Path) -> int:
    """How many starts came before the job in front of theirs had ended, or after a later one had started."""
    found, latest, ended = 0, dict[str, int](), defaultdict[str, set[int]](set)
    for key, number, event, _ in sorted(events(journal), key=lambda one: one[3]):
        if event == "end":
            ended[key].add(number)
            continue
        before = latest.get(key)
        found += before is not None and (number < before or (number > before and before not in ended[key]))
        latest[key] = max(number, before if before is not None else number)
    return found


def events(journal: Path) -> list[tuple[str, int, str, float]]:
    """What handlers wrote down: key, job, start or end, time."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [(key, int(n), event, float(at)) for key, n, event, at in (line.split() for line in lines)]


def starts(journal: Path) -> list[tuple[str, int, float]]:
    """The starts alone, in order."""
    return sorted(
        ((key, n, at) for key, n, event, at in events(journal) if event == "start"), key=lambda one: one[2]
    )


def load(connection: psycopg.Connection[Any], keys: Sequence[str]) -> None:
    """Enqueue one job for each element, with that partition key."""
    for first in range(0, len(keys), 20_000):
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT tandem.begin_copy()")
            with cursor.copy(COPY) as copy:
                for n, key in enumerate(keys[first : first + 20_000], first):
                    copy.write_row(("bench", f'{{"n": {n}, "t": {time.time()}}}', key))
            cursor.execute("SELECT tandem.enqueue_copied()")


def _finish(run: Run, jobs: int, seconds: float) -> None:
    run.line.n, run.line.jobs_s, run.line.backlog = jobs, jobs / seconds, run.unfinished()
    done = run.meter.number("SELECT count(*) FROM tandem.done WHERE outcome = 'SUCCEEDED'")
    run.line.lost = jobs - done - run.line.backlog
    if run.line.lost or run.line.backlog:
        run.line.void = f"{run.line.lost} lost, {run.line.backlog} unfinished"


class Watch:
    """Looks at the leases again and again, each time in one snapshot."""

    def __init__(self, url: str, killed: set[str]) -> None:
        self.overshoot = 0
        self.samples = 0
        self._killed = killed
        self._used = self._free = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("SET enable_seqscan = off")
            alive: list[uuid.UUID] = []
            while not self._stop.wait(0.002):
                if self.samples % 50 == 0:
                    rows = connection.execute(ALIVE).fetchall()
                    alive = [one for one, name in rows if name.rsplit(":", 1)[1] not in self._killed]
                seen = connection.execute(OBSERVE, {"alive": alive, "enough": 2 * GLOBAL_LIMIT}).fetchone()
                assert seen is not None  # noqa: S101 - one row, always
                living, all_, over_key, backlog = seen
                self.overshoot = max(self.overshoot, all_ - GLOBAL_LIMIT, over_key)
                self.samples += 1
                if backlog >= 2 * GLOBAL_LIMIT and (self._used or all_ >= GLOBAL_LIMIT):
                    self._used += living
                    self._free += GLOBAL_LIMIT - (all_ - living)

    def utilisation(self) -> float:
        """Leases of living workers by what the limit left them, while enough waited."""
        return self._used / max(1, self._free)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def watching(run: Run) -> Watch:
    """An observer for the length of a block."""
    return Watch(run.observer_url, run.programs.killed)


@contextmanager
def killing(run: Run, every: float, **options: Any) -> Iterator[list[int]]:
    """SIGKILL a worker chosen by chance every so often, and start another one in its place."""
    killed, stop = list[int](), threading.Event()

    def kill() -> None:
        while not stop.wait(every * random.uniform(0.5, 1.5)):  # noqa: S311 - no secret
            worker = random.choice([one for one in run.programs.workers if "ready" in one.facts])  # noqa: S311
            run.programs.workers.remove(worker)
            killed.append(worker.process.pid)
            run.programs.killed.add(str(worker.process.pid))
            worker.kill()
            run.programs.start_workers(1, wait=False, **options)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()
        run.programs.stop_workers()


LIMIT_WORKLOADS = {"L1": l1, "L2": l2, "L3": l3, "L4": l4}
