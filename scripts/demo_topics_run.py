"""The course of the topics' demo: cameras publish, workers consume, one is killed, the groups are reconciled.

What it starts are the commands an operator runs; what it reports is what `tandem topics` reads.
"""

import argparse
import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also when run by its path

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as SmtpHandler

from app.config import DatabaseSettings
from app.database import migrate
from app.database.connect import connect
from app.database.embedded import running
from app.domains.topics import audit, repository, service
from app.domains.topics.example import CAMERAS, GROUPS
from app.domains.topics.schemas import Where
from scripts.demo_run import Processes

EVENTS, BATCH, CAMERA_COUNT, SETTLE_SECONDS = 4_000, 100, 12, 120.0


class Mailbox(SmtpHandler):
    """A mail server that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: set[str] = set()

    def handle_message(self, message: Any) -> None:
        """Keep the id: a repeat has the same."""
        self.mails.add(str(message["Message-ID"]))


def events(count: int) -> list[dict[str, Any]]:
    """Frames of several cameras, with some errors and some frames that nobody can read; the same each time."""
    dice, made = random.Random(7), []  # noqa: S311 - the same events each time
    for number in range(count):
        camera, luck = f"gate-{number % CAMERA_COUNT}", dice.random()
        body: dict[str, Any] = {"camera": camera, "frame": secrets.token_hex(8)}
        if luck < 0.005:
            body = {"camera": camera, "frame": "unreadable"}
        elif luck < 0.02:
            body = {"camera": camera, "kind": "error"}
        made.append({"message": body, "key": camera, "dedup_key": f"event-{number}"})
    return made


async def publish(api: str, made: list[dict[str, Any]]) -> None:
    """Publish in batches, as a camera gateway would; a batch that fails is repeated and published once."""
    async with httpx.AsyncClient(base_url=api, timeout=30) as client:
        for first in range(0, len(made), BATCH):
            batch = {"messages": made[first : first + BATCH]}
            for _ in range(2):  # the second is the repeat of a client that lost its answer
                answer = await client.post(f"/v1/topics/{CAMERAS}/messages", json=batch)
                answer.raise_for_status()


async def course(console: Console, url: str, count: int, processes: Processes, mailbox: Mailbox) -> bool:
    """Run it; true when every group got everything."""
    async with await connect(url, name="demo") as connection:
        for topic, groups in GROUPS.items():
            await service.create_topic(connection, topic, actor="demo")
            for group in groups:
                await service.create_group(connection, topic, group, Where(at="now"), actor="demo")
        port = free_port()
        processes.start("topics-api", "api", "--port", str(port))
        victim = processes.start("topics-worker-1", "worker")
        processes.start("topics-worker-2", "worker")
        api = f"http://127.0.0.1:{port}"
        await answers(api)
        started = time.monotonic()
        feeding = asyncio.create_task(publish(api, events(count)))
        while (await repository.list_groups(connection, topic=CAMERAS))[0][
            "running"
        ] == 0 and not feeding.done():
            await asyncio.sleep(0.02)
        os.kill(victim.pid, signal.SIGKILL)
        console.print(f"worker {victim.pid} killed while it held messages; its leases end by themselves")
        await feeding
        show(console, "when the last event was published", await repository.list_groups(connection))
        await settled(connection)
        console.print(f"{count} events, {time.monotonic() - started:.1f} s until every group was done")
        show(console, "at the end", await repository.list_groups(connection))
        good = await reconcile(console, connection)
        verdict = await audit.verify(connection, Path(processes.environment["TANDEM_TOPICS__AUDIT_FOLDER"]))
        console.print(
            f"audit log: {verdict.sealed} entries sealed, {verdict.reason or 'as they were sealed'}"
        )
        console.print(f"mails that arrived: {len(mailbox.mails)}")
        return good and verdict.good and verdict.sealed > 0


async def reconcile(console: Console, connection: Any) -> bool:
    """Published = acknowledged + waiting + dead, for each group."""
    table, good = Table("topic", "group", "published", "acknowledged", "waiting", "dead", "missing"), True
    for one in await repository.list_groups(connection):
        found = await repository.verify_group(connection, one["topic"], one["group_name"])
        names = ("published", "acknowledged", "waiting", "dead", "missing")
        table.add_row(one["topic"], one["group_name"], *(str(found[name]) for name in names))
        total = found["acknowledged"] + found["waiting"] + found["dead"]
        good = good and not found["missing"] and found["published"] == total and not found["waiting"]
    console.print(table)
    return good


async def settled(connection: Any) -> None:
    """Wait until nothing waits."""
    end = time.monotonic() + SETTLE_SECONDS
    while any(one["lag"] for one in await repository.list_groups(connection)) and time.monotonic() < end:
        await asyncio.sleep(0.2)
    await asyncio.sleep(2.5)  # the sweep seals once a second


async def answers(api: str) -> None:
    """Wait until the API is there."""
    async with httpx.AsyncClient() as client:
        for _ in range(600):
            try:
                if (await client.get(f"{api}/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the API did not start: see .tandem/demo/topics-api.log")


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """One stage per line."""
    table = Table("topic", "group", "lag", "running", "retrying", "dead", "consumers", title=title)
    for one in rows:
        names = ("lag", "running", "scheduled", "dead", "consumers")
        table.add_row(one["topic"], one["group_name"], *(str(one[name]) for name in names))
    console.print(table)


@contextmanager
def scratch() -> Iterator[tuple[str, str]]:
    """A server and a folder of this run's own, gone afterwards."""
    with TemporaryDirectory(prefix="tandem-demo-") as folder, running(Path(folder)) as url:
        yield url, folder


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Run the demo on a server of its own."""
    parser = argparse.ArgumentParser(prog="scripts/demo_topics", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"how many (default {EVENTS})")
    options = parser.parse_args()
    console, mailbox = Console(width=120), Mailbox()
    mail = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    mail.start()
    try:
        with scratch() as (url, folder):
            migrate.upgrade(url, settings=DatabaseSettings())
            processes = Processes(
                {
                    "DATABASE_URL": url,
                    "TANDEM_TOPICS__EXAMPLE": "true",
                    "TANDEM_TOPICS__AUDIT_FOLDER": f"{folder}/audit",
                    "TANDEM_TOPICS__ARCHIVE_FOLDER": f"{folder}/archive",
                    "TANDEM_NOTIFICATIONS__SMTP_HOST": "127.0.0.1",
                    "TANDEM_NOTIFICATIONS__SMTP_PORT": str(mail.port),
                    "TANDEM_NOTIFICATIONS__SMTP_SECURITY": "none",
                    "TANDEM_WORKER__LEASE_SECONDS": "4",
                    "TANDEM_API__AUTH": "off",
                }
            )
            try:
                good = asyncio.run(course(console, url, options.events, processes, mailbox))
            finally:
                processes.stop()
    finally:
        mail.stop()
    console.print("every group got every message" if good else "SOMETHING IS MISSING")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
