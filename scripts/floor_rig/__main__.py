"""scripts/floors: producers by SQL beside two workers and the sweep, pinned readers and writers; then drain and judge.

Exit code 0: every committed job ran once; 1: a promise is broken; 3: void, no floor moved or nothing was late.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from time import monotonic
from typing import Any

import psycopg

from app import events
from app.config import Settings, SweeperSettings, WorkerSettings
from app.queue.facts import Swept
from app.queue.kinds import Kind, Registry
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job
from scripts.floor_rig.judge import BELOW, FLOOR, OPEN, Seen, judge, pickups
from scripts.floor_rig.planted import BUGS, planted
from scripts.floor_rig.producers import (
    FLAKY_KIND,
    KEY_LIMIT,
    MANAGED,
    PLAIN,
    PLAIN_KIND,
    Book,
    Producers,
    pin_reader,
    pin_writer,
)
from scripts.throwaway import throwaway_server
from workers.supervisor import Supervisor

VOID, BROKEN = 3, 1
LATE_PICKUP = 1500.0
"""Milliseconds: past the last quick look after falling asleep and the first steady one."""


def registry_for(seen: Seen, delay: float) -> Registry:
    """Handlers that count; one kind fails its first try."""

    async def plain(job: Job[dict[str, Any]]) -> None:
        seen.started.setdefault(job.id, monotonic())
        seen.runs[job.id] += 1

    async def flaky(job: Job[dict[str, Any]]) -> None:
        await plain(job)
        if seen.runs[job.id] == 1:
            raise HandlerError("the first try fails")

    registry = Registry()
    patient = Retrying(own=RetryPolicy(10, delays=(delay / 50, delay / 10)))
    registry.add(Kind(PLAIN_KIND, plain, payload=dict[str, Any], retry=patient))
    registry.add(Kind(FLAKY_KIND, flaky, payload=dict[str, Any], retry=patient))
    return registry


@asynccontextmanager
async def working(
    url: str, registry: Registry, seen: Seen, *, sweep: bool, quick: bool
) -> AsyncIterator[Supervisor]:
    """A worker in this process for the length of a block."""
    settings = Settings(
        worker=WorkerSettings(queues=dict.fromkeys((*PLAIN, MANAGED), 1), slots=20, drain_seconds=10.0),
        sweeper=SweeperSettings(every_seconds=0.1 if quick else 5.0),
    )
    supervisor = Supervisor(settings, url, registry, sweep=sweep)
    running = asyncio.create_task(supervisor.run())
    try:
        await asyncio.wait(
            [running, asyncio.ensure_future(supervisor.started.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        yield supervisor
    finally:
        supervisor.ask_to_stop()
        await running
        seen.probed += supervisor.prober.found


async def restart_again_and_again(
    url: str, registry: Registry, seen: Seen, stop: asyncio.Event, every: float
) -> None:
    """A second worker that forgets its floors now and then, and begins at the safe ones."""
    while not stop.is_set():
        async with working(url, registry, seen, sweep=False, quick=False):
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await stop.wait()
        seen.restarts += 1


async def watch(url: str, seen: Seen, stop: asyncio.Event, every: float) -> None:
    """Look for what lies below its floor: nobody would ever find it."""
    last = 0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            await look_below(connection, seen)
            row = await (await connection.execute(FLOOR)).fetchone()
            seen.moves += row is not None and row[0] != last
            last = row[0] if row else last
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await stop.wait()


async def look_below(connection: psycopg.AsyncConnection[Any], seen: Seen) -> None:
    """Note what lies below its floor."""
    for what, position, floor in await (await connection.execute(BELOW)).fetchall():
        seen.below[what] = position, floor


async def drain(url: str, seen: Seen, seconds: float) -> bool:
    """Wait until nothing is left to do; no longer once something was found that no worker can see."""
    end = monotonic() + seconds
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while monotonic() < end and not seen.below:
            if not any(await (await connection.execute(OPEN)).fetchone() or (1,)):
                return True
            await look_below(connection, seen)
            await asyncio.sleep(0.1)
    return False


async def storm(url: str, options: argparse.Namespace) -> tuple[Book, Seen, bool]:
    """The whole run."""
    book, seen, stop = Book(), Seen(), asyncio.Event()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.manage_queue(%s, key_limit => %s)", (MANAGED, KEY_LIMIT))
    registry, quick = registry_for(seen, options.delay), options.delay < 5
    hushed = events.subscribe(Swept, lambda fact: seen.swept.update({fact.service: fact.moved}))
    async with AsyncExitStack() as stack:
        stack.callback(hushed)
        await stack.enter_async_context(working(url, registry, seen, sweep=True, quick=quick))
        others = [
            asyncio.create_task(one)
            for one in (
                restart_again_and_again(url, registry, seen, stop, max(1.0, options.seconds / 5)),
                watch(url, seen, stop, 0.02 if quick else 0.25),
                pin_reader(url, stop),
                pin_writer(url, book, stop, options.delay),
            )
        ]
        producers = Producers(url, book, seed=options.seed, delay=options.delay, most=options.producers)
        await producers.run(options.seconds)
        stop.set()  # the writer commits its last job
        await asyncio.gather(*others)
        drained = await drain(url, seen, options.drain)
    return book, seen, drained


def report_of(
    options: argparse.Namespace, book: Book, seen: Seen, drained: bool, wrong: dict[str, list[str]]
) -> dict[str, Any]:
    """Everything in numbers."""
    late = [job for job in book.prompt & seen.started.keys() if _waited(book, seen, job) > LATE_PICKUP]
    return {
        "producers": book.producers,
        "committed": len(book.committed),
        "taken_back": len(book.gone),
        "late_commits": book.late,
        "refused": book.refused,
        **{name: len(found) for name, found in wrong.items()},
        "drained": drained,
        "floor_moves": seen.moves,
        "worker_restarts": seen.restarts,
        "found_by_full_probe": seen.probed,
        "reminded_keys": seen.swept["lines"],
        "rescued": seen.swept["rescue"],
        "promoted": seen.swept["promote"],
        "late_pickups": len(late),
        **pickups(book, seen),
        "seconds": options.seconds,
        "delay": options.delay,
        "seed": options.seed,
    }


def _waited(book: Book, seen: Seen, job: int) -> float:
    return (seen.started[job] - book.committed[job]) * 1000


def exit_code(report: dict[str, Any]) -> int:
    """0, BROKEN, or VOID: where no floor moved and nothing was late, nothing was put to the test."""
    if not report["drained"] or any(
        report[name] for name in ("lost", "doubled", "ghosts", "below_floor", "flaky_not_retried")
    ):
        return BROKEN
    return 0 if report["floor_moves"] and report["late_commits"] and report["committed"] else VOID


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, judge, tell."""
    parser = argparse.ArgumentParser(prog="scripts/floors", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long producers are started (default 60)"
    )
    parser.add_argument(
        "--delay", type=float, default=30, help="the longest a transaction stays open (default 30)"
    )
    parser.add_argument("--producers", type=int, default=200, help="the most at one time (default 200)")
    parser.add_argument("--seed", type=int, default=None, help="draws what producers do; default: a new one")
    parser.add_argument(
        "--drain", type=float, default=120, help="seconds until all must have ended (default 120)"
    )
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--plant", choices=BUGS, help="a wrong rule for the floors: the run must find it")
    parser.add_argument(
        "--server", help="the address of an empty migrated database; otherwise one made for the run"
    )
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = time.time_ns() % 1_000_000
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a loaded machine skips turns of the sweep
    with nullcontext(options.server) if options.server else throwaway_server() as url, planted(options.plant):
        book, seen, drained = asyncio.run(storm(url, options))
        with psycopg.connect(url, autocommit=True) as connection:
            wrong = judge(book, seen, connection)
    report = report_of(options, book, seen, drained, wrong)
    code = exit_code(report)
    for name, found in wrong.items():
        for one in found[:5]:
            print(f"{name}: {one}", file=sys.stderr)
    if options.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{name:22} {value}" for name, value in report.items()))
    return code


if __name__ == "__main__":
    sys.exit(main())
