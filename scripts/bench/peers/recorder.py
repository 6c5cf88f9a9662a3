"""What the programs of all Python peers share: payloads, the pace of producers, and what handlers write down.

Standard library alone, because it runs in every peer's environment. recorder.mjs is the same for Node.
"""

import array
import asyncio
import contextlib
import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PAD = "x" * 56
ROWS_IN_MEMORY = 3 * 50_000
Payload = dict[str, Any]


class Client(Protocol):
    """One connection of a producer."""

    async def single(self, payload: Payload) -> None:
        """Enqueue one job and commit."""

    async def many(self, payloads: list[Payload]) -> None:
        """Enqueue many jobs by the peer's bulk API and commit."""


class FailsOnceError(RuntimeError):
    """What a handler raises on purpose."""


Open = Callable[[], Awaitable[Client]]
SyncSingle = Callable[[Payload], None]


def payload(n: int) -> Payload:
    """About 100 bytes as JSON; `t` is the moment before the enqueue call."""
    return {"n": n, "t": time.time(), "pad": PAD}


def say(**facts: Any) -> None:
    """One line for the driver."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class Produced:
    """Counts and times what a producer did, and reports it."""

    def __init__(self) -> None:
        self.cpu, self.began = time.process_time(), time.time()
        say(began=self.began)

    def report(self, n: int) -> None:
        """Tell the driver how many jobs were committed in which time."""
        now = time.time()
        say(n=n, began=self.began, seconds=now - self.began, cpu=time.process_time() - self.cpu)


@dataclass(frozen=True)
class Pace:
    """Job number i is due at `began` + i * `every`."""

    began: float
    every: float
    first: int


async def produce(spec: dict[str, Any], open_client: Open) -> None:
    """Enqueue as `spec` says: mode single, bulk, paced or flood."""
    clients = [await open_client() for _ in range(spec.get("conns", 1))]
    first, seconds = spec.get("first", 0), spec.get("seconds", 5.0)
    produced = Produced()
    if spec["mode"] == "single":
        numbers, end = itertools.count(first), time.time() + seconds
        done = await asyncio.gather(*(_singles(client, numbers, end) for client in clients))
        produced.report(sum(done))
    elif spec["mode"] == "bulk":
        for start in range(first, first + spec["jobs"], spec["batch"]):
            stop = min(start + spec["batch"], first + spec["jobs"])
            await clients[0].many([payload(n) for n in range(start, stop)])
        produced.report(spec["jobs"])
    elif spec["mode"] == "paced":
        count, step = int(seconds / spec["every"]), len(clients)
        turns = [range(place, count, step) for place in range(step)]
        pace = Pace(time.time(), spec["every"], first)
        await asyncio.gather(*(_paced(*one, pace) for one in zip(clients, turns, strict=True)))
        produced.report(count)
    else:
        produced.report(await _flood(clients[0], first, seconds, spec["batch"], spec.get("rate")))


async def _singles(client: Client, numbers: "itertools.count[int]", end: float) -> int:
    done = 0
    while time.time() < end:
        await client.single(payload(next(numbers)))
        done += 1
    return done


def produce_in_threads(spec: dict[str, Any], clients: list[SyncSingle]) -> None:
    """Mode single for blocking clients: one thread per connection."""
    first, seconds = spec.get("first", 0), spec.get("seconds", 5.0)
    done = [0] * len(clients)
    produced = Produced()
    end = time.time() + seconds

    def work(place: int) -> None:
        single, number = clients[place], first + place
        while time.time() < end:
            single(payload(number))
            number += len(clients)
            done[place] += 1

    if len(clients) == 1:
        work(0)
    else:
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(work, range(len(clients))))  # raises what a thread has raised
    produced.report(sum(done))


async def _paced(client: Client, turns: Iterable[int], pace: Pace) -> None:
    for i in turns:
        await asyncio.sleep(max(0.0, pace.began + i * pace.every - time.time()))
        await client.single(payload(pace.first + i))


async def _flood(client: Client, first: int, seconds: float, batch: int, rate: float | None) -> int:
    began, n = time.time(), 0
    while (now := time.time()) < began + seconds:
        if rate is not None and n > (now - began) * rate:
            await asyncio.sleep(n / rate - (now - began))
        await client.many([payload(first + n + i) for i in range(batch)])
        n += batch
    return n


class Recorder:
    """A worker's note of every handler start: in a file, so that a million of them do not count as memory."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.out = Path(spec["out"])
        self.fail_every: int = spec.get("fail_every", 0)
        self._rows = array.array("d")
        self._written = 0
        self.out.unlink(missing_ok=True)
        self._failed: set[int] = set()
        self._cpu = 0.0
        self._ended = threading.Event()

    def ran(self, n: int, t: float, *, again: bool = False) -> None:
        """A handler starts. Raises FailsOnceError the first time for every `fail_every`th job, if that is set.

        A process knows only its own tries: who knows that a job failed in another one says `again`.
        """
        self._rows.extend((n, time.time(), t))
        if len(self._rows) >= ROWS_IN_MEMORY:
            self._write()
        if self.fail_every and n % self.fail_every == 0 and not again and n not in self._failed:
            self._failed.add(n)
            raise FailsOnceError(f"job {n} fails once")

    def ready(self) -> None:
        """The worker is up: tell the driver, and how many jobs started from now on."""
        self._cpu = time.process_time()
        say(ready=True)
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        told = -1
        while not self._ended.wait(0.05):
            if (count := self._written + len(self._rows) // 3) != told:
                say(ran=count)
                told = count

    def save(self) -> None:
        """Write the record: three doubles per start: n, started at, enqueued at."""
        cpu = time.process_time() - self._cpu
        self._ended.set()
        self._write()
        say(saved=self._written, cpu=cpu)

    def _write(self) -> None:
        rows, self._rows = self._rows, array.array("d")
        with self.out.open("ab") as file:
            rows.tofile(file)
        self._written += len(rows) // 3


async def until_told(*, signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)) -> None:
    """Wait for the driver's SIGTERM."""
    stop = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def ended(task: "asyncio.Task[Any]", seconds: float = 10.0) -> None:
    """Give a worker's own shutdown some time, then cancel it."""
    _, late = await asyncio.wait([task], timeout=seconds)
    for one in late:
        one.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await one


Setup = Callable[[str], Coroutine[Any, Any, None]]
Produce = Callable[[str, dict[str, Any]], Coroutine[Any, Any, None]]
Work = Callable[[str, dict[str, Any], Recorder], Coroutine[Any, Any, None]]


def main(*, setup: Setup, produce: Produce, work: Work, manage: Callable[[str], None] | None = None) -> None:
    """`adapter.py setup|manage|produce|work URL SPEC`: run one command of a peer's program."""
    command, url, spec = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if command == "setup":
        asyncio.run(setup(url))
    elif command == "manage" and manage is not None:
        manage(url)
    elif command == "produce":
        asyncio.run(produce(url, spec))
    else:
        asyncio.run(work(url, spec, Recorder(spec)))
