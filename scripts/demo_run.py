"""The demo's course: start API and workers, send conversations as a back end would, kill a worker, report.

What it starts are the same commands an operator runs; everything it reports is read from the database by SQL.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also when run by its path

from app.config import CHECKOUT, Settings, load_settings
from app.database import migrate
from app.database.connect import connect_sync
from app.database.location import database
from scripts import demo_report
from scripts.demo_corpus import load_conversations

LEASE_SECONDS = 4
REPEATS = 25
CLIENTS = 16
SETTLE_SECONDS = 60.0
LOGS = CHECKOUT / ".tandem" / "demo"


@dataclass
class Answers:
    """What the back end saw: the first answer to each conversation, and how often a repeat gave the same ids."""

    first: dict[str, tuple[str, int]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    retried: int = 0
    repeats: int = 0
    repeats_same: int = 0


@dataclass
class Course:
    """What happened on the way, for the report."""

    started_at: float
    killed_leases: int = 0
    worker_killed: bool = False
    fed_seconds: float = 0.0


class Processes:
    """The commands of this run, ended by their own pids."""

    def __init__(self, settings_env: dict[str, str]) -> None:
        self.environment = {**os.environ, **settings_env}
        self.running: list[subprocess.Popen[bytes]] = []
        LOGS.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start one `tandem` command; its output goes to .tandem/demo/NAME.log."""
        with (LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli", *command],
                cwd=CHECKOUT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def stop(self) -> None:
        """End what still runs; wait for the clean end of each."""
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> int:
    """Run the demo; 0 when every accepted conversation was processed exactly once."""
    options = _options()
    console = Console(stderr=options.json, highlight=False)
    settings = load_settings()
    with database(settings) as place:
        migrate.upgrade(place.url, settings=settings.database)
        with _processes(place.url) as processes, connect_sync(place.url, name="demo") as connection:
            report = _run(options, settings, processes, connection, console)
            demo_report.show(report, console, api=report["api"], logs=LOGS, keep=options.keep)
            if options.keep:
                console.print("\n[bold]Still running.[/bold] Ctrl-C stops everything.")
                _wait_for_interrupt()
    if options.json:
        sys.stdout.write(json.dumps(demo_report.machine(report)) + "\n")
    return 0 if demo_report.passed(report) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--conversations", type=int, default=600, help="how many of the corpora (default 600)"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one JSON object as last line of the output")
    return parser.parse_args()


@contextmanager
def _processes(url: str) -> Iterator[Processes]:
    processes = Processes(
        {
            "DATABASE_URL": url,
            "TANDEM_API__AUTH": "off",  # on loopback, for as long as the demo lasts
            # The killed worker's jobs come back within a few seconds instead of half a minute.
            "TANDEM_WORKER__LEASE_SECONDS": str(LEASE_SECONDS),
            "TANDEM_SWEEPER__EVERY_SECONDS": "1",
            "TANDEM_SWEEPER__LEADER_LEASE_SECONDS": "3",
        }
    )
    try:
        yield processes
    finally:
        processes.stop()


def _run(
    options: argparse.Namespace,
    settings: Settings,
    processes: Processes,
    connection: psycopg.Connection[Any],
    console: Console,
) -> dict[str, Any]:
    run = f"{secrets.token_hex(3)}_"
    bodies = [one.body for one in load_conversations(options.conversations, run=run)]
    port = _free_port()
    api = f"http://127.0.0.1:{port}"
    processes.start("api", "api", "--port", str(port))
    workers = [processes.start(f"worker-{number}", "worker") for number in (1, 2)]
    course = Course(time.monotonic())
    console.print(f"[bold]Tandem demo[/bold]: {len(bodies)} conversations, API at {api}, two workers")
    asyncio.run(_until_ready(api, processes.running))
    _until_workers(connection, workers)
    answers = asyncio.run(_feed(api, bodies, connection, processes, workers, course, console))
    _until_quiet(connection, answers, console)
    return demo_report.collect(connection, answers, course, api=api, sent=len(bodies))


# --- feeding ---------------------------------------------------------------------------------------------------


async def _feed(
    api: str,
    bodies: Sequence[dict[str, Any]],
    connection: psycopg.Connection[Any],
    processes: Processes,
    workers: list[subprocess.Popen[bytes]],
    course: Course,
    console: Console,
) -> Answers:
    """Send every conversation once, and some again, from parallel clients; kill a worker half-way."""
    answers = Answers()
    todo = list(bodies)
    repeats = random.Random(7).sample(list(bodies), REPEATS)  # noqa: S311 - which calls are repeated
    begun = time.monotonic()
    with _progress(console) as progress:
        accepted = progress.add_task("accepted ", total=len(bodies))
        processed = progress.add_task("processed", total=len(bodies))
        async with httpx.AsyncClient(base_url=api, timeout=15.0) as client:

            async def back_end() -> None:
                while todo:
                    body = todo.pop()
                    await _post(client, body, answers)
                    progress.update(accepted, completed=len(answers.first))
                    if body in repeats:
                        await _post(client, body, answers)

            clients = [asyncio.create_task(back_end()) for _ in range(CLIENTS)]
            killer = asyncio.create_task(
                _kill_half_way(answers, len(bodies), connection, processes, workers, course, console)
            )
            while not all(client.done() for client in clients) or not killer.done():
                progress.update(processed, completed=await asyncio.to_thread(_processed, connection, bodies))
                await asyncio.sleep(0.1)
            await asyncio.gather(*clients, killer)
        progress.update(processed, completed=_processed(connection, bodies))
    course.fed_seconds = time.monotonic() - begun
    return answers


async def _post(client: httpx.AsyncClient, body: dict[str, Any], answers: Answers) -> None:
    """What a careful back end does: repeat the same call after 503 or a lost answer, and compare the ids."""
    name = body["conversation_id"]
    for _ in range(20):
        try:
            response = await client.post("/v1/conversations/end", json=body)
        except httpx.TransportError:
            response = None
        if response is not None and response.status_code == 202:
            ids = (response.json()["event_id"], response.json()["job_id"])
            if name in answers.first:
                answers.repeats += 1
                answers.repeats_same += answers.first[name] == ids
            answers.first.setdefault(name, ids)
            return
        if response is not None and response.status_code != 503:
            answers.refused.append(f"{name}: {response.status_code} {response.text[:200]}")
            return
        answers.retried += 1
        await asyncio.sleep(0.2)
    answers.refused.append(f"{name}: no answer after 20 tries")


async def _kill_half_way(
    answers: Answers,
    total: int,
    connection: psycopg.Connection[Any],
    processes: Processes,
    workers: list[subprocess.Popen[bytes]],
    course: Course,
    console: Console,
) -> None:
    """SIGKILL a worker while it holds jobs: stop it, look at its leases, and let it go on if it holds none."""
    while len(answers.first) < total // 2:
        await asyncio.sleep(0.005)
    victim = workers[0]
    while len(answers.first) < total:
        os.kill(victim.pid, signal.SIGSTOP)
        held = await asyncio.to_thread(_leases_of, connection, victim.pid)
        if held:
            break
        os.kill(victim.pid, signal.SIGCONT)
        await asyncio.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - another moment
    course.killed_leases = _leases_of(connection, victim.pid)
    victim.kill()
    victim.wait()
    course.worker_killed = victim.returncode == -signal.SIGKILL
    console.print(f"  worker {victim.pid} killed (SIGKILL) with {course.killed_leases} jobs in its hands")
    workers[0] = processes.start("worker-3", "worker")


# --- waiting and looking -----------------------------------------------------------------------------------------


async def _until_ready(api: str, running: Sequence[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + 30
    async with httpx.AsyncClient() as client:
        while time.monotonic() < end:
            if any(process.poll() is not None for process in running):
                break
            try:
                if (await client.get(f"{api}/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise SystemExit(f"the API or a worker did not start; see the logs under {LOGS.relative_to(CHECKOUT)}")


def _until_workers(connection: psycopg.Connection[Any], workers: Sequence[subprocess.Popen[bytes]]) -> None:
    names = [f"{socket.gethostname()}:{worker.pid}" for worker in workers]
    end = time.monotonic() + 30
    while time.monotonic() < end:
        row = connection.execute(
            "SELECT count(*) FROM tandem.worker WHERE name = ANY (%s)", (names,)
        ).fetchone()
        if row is not None and row[0] == len(names):
            return
        time.sleep(0.05)
    raise SystemExit(f"the workers did not start; see the logs under {LOGS.relative_to(CHECKOUT)}")


def _until_quiet(connection: psycopg.Connection[Any], answers: Answers, console: Console) -> None:
    """Wait until nothing accepted is PENDING any more; the killed worker's jobs need its lease to run out."""
    end, names = time.monotonic() + SETTLE_SECONDS, list(answers.first)
    with console.status("waiting for the killed worker's leases to run out and its jobs to run again"):
        while time.monotonic() < end:
            row = connection.execute(
                "SELECT count(*) FROM conversation_events WHERE conversation_id = ANY (%s) AND status = 'PENDING'",
                (names,),
            ).fetchone()
            if row is not None and row[0] == 0:
                return
            time.sleep(0.05)


def _processed(connection: psycopg.Connection[Any], bodies: Sequence[dict[str, Any]]) -> int:
    row = connection.execute(
        "SELECT count(*) FROM conversation_events WHERE conversation_id = ANY (%s) AND status = 'PROCESSED'",
        ([body["conversation_id"] for body in bodies],),
    ).fetchone()
    return int(row[0]) if row else 0


def _leases_of(connection: psycopg.Connection[Any], pid: int) -> int:
    row = connection.execute(
        "SELECT count(*) FROM tandem.lease AS l JOIN tandem.worker AS w ON w.id = l.worker WHERE w.name = %s",
        (f"{socket.gethostname()}:{pid}",),
    ).fetchone()
    return int(row[0]) if row else 0


def _progress(console: Console) -> Progress:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_interrupt() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())
