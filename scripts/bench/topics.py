"""T1-T4: topics measured on a server of its own: latency, throughput for 1 and 4 groups, replay, a pinned snapshot.

Usage: .venv/bin/python -m scripts.bench.topics [--messages 20000] [--replay 100000]; one JSON line a workload.
"""

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from app.client import Message, publish_many
from app.config import DatabaseSettings, Settings, SweeperSettings, WorkerSettings
from app.database import migrate
from app.database.embedded import running
from app.database.engine import make_engine, make_session_factory
from app.domains.topics.consumers import Consumer, Received, add_consumers
from app.queue.kinds import Registry
from workers.supervisor import Supervisor

SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
BATCH = 500
RATE = 500
SECONDS = 10


@contextmanager
def server() -> Iterator[str]:
    """A migrated server, gone afterwards."""
    with TemporaryDirectory(prefix="tandem-bench-") as folder, running(Path(folder), settings=SERVER) as url:
        migrate.upgrade(url, settings=DatabaseSettings())
        yield url


def make(url: str, topic: str, groups: int) -> None:
    """A topic with so many groups, filled."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.create_topic(%s)", (topic,))
        for number in range(groups):
            connection.execute("SELECT tandem.create_topic_group(%s, %s)", (topic, f"g{number}"))
        connection.execute(
            "SELECT tandem.fill_topic(id, 1000) FROM tandem.topic_fill WHERE finished_at IS NULL"
        )


@asynccontextmanager
async def worker(url: str, consumers: list[Consumer]) -> AsyncIterator[None]:
    """A worker in this process."""
    queues = {one.queue: 1 for one in consumers}
    settings = Settings(worker=WorkerSettings(queues=queues), sweeper=SweeperSettings())
    engine = make_engine(url, name="handlers")
    registry = Registry()
    add_consumers(registry, consumers, make_session_factory(engine))
    supervisor = Supervisor(settings, url, registry, engine=engine)
    task = asyncio.create_task(supervisor.run())
    await supervisor.started.wait()
    try:
        yield
    finally:
        supervisor.ask_to_stop()
        await task


def feed(url: str, topic: str, count: int) -> None:
    """Publish flat out, a batch a transaction."""
    with psycopg.connect(url) as connection:
        for first in range(0, count, BATCH):
            body = [Message({"n": n, "pad": "x" * 80}, key=f"k{n % 64}") for n in range(first, first + BATCH)]
            publish_many(connection, topic, body)
            connection.commit()


def undone(url: str, topic: str) -> int:
    """Deliveries of a topic that are not done."""
    query = (
        "SELECT (SELECT count(*) FROM tandem.job WHERE queue LIKE %(q)s) - (SELECT count(*) FROM tandem.done AS d"
        " JOIN tandem.job AS j ON j.id = d.job_id WHERE j.queue LIKE %(q)s)"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query, {"q": f"topic.{topic}..%"}).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


async def latency(url: str) -> dict[str, Any]:
    """T1: publish at 500/s, one message a transaction; from just before the call to the handler's start."""
    make(url, "t1", 1)
    waits: list[float] = []

    async def handle(received: Received[Any]) -> None:
        waits.append(time.monotonic() - received.body["at"])

    def produce() -> None:
        with psycopg.connect(url) as connection:
            start = time.monotonic()
            for number in range(RATE * SECONDS):
                time.sleep(max(0.0, start + number / RATE - time.monotonic()))
                publish_many(connection, "t1", [Message({"at": time.monotonic()})])
                connection.commit()

    async with worker(url, [Consumer("t1", "g0", handle)]):
        await asyncio.to_thread(produce)
        while len(waits) < RATE * SECONDS:
            await asyncio.sleep(0.05)
    cut = statistics.quantiles(waits, n=100)
    return {"workload": "T1", "rate": RATE, "n": len(waits)} | {
        f"p{n}_ms": round(cut[n - 1] * 1000, 2) for n in (50, 95, 99)
    }


async def throughput(url: str, name: str, groups: int, count: int) -> dict[str, Any]:
    """T2: publish flat out while one worker consumes; messages per second until every group is done."""
    make(url, name, groups)
    seen = 0

    async def handle(_: Received[Any]) -> None:
        nonlocal seen
        seen += 1

    async with worker(url, [Consumer(name, f"g{number}", handle) for number in range(groups)]):
        started = time.monotonic()
        await asyncio.to_thread(feed, url, name, count)
        fed = time.monotonic() - started
        while seen < count * groups:
            await asyncio.sleep(0.01)
        seconds = time.monotonic() - started
    return {
        "workload": "T2",
        "groups": groups,
        "n": count,
        "published_s": round(count / fed),
        "messages_s": round(count / seconds),
        "deliveries_s": round(count * groups / seconds),
        "lost": undone(url, name),
    }


def replay(url: str, count: int) -> dict[str, Any]:
    """T3: deliver a log again to one group, in batches of 1,000."""
    make(url, "t3", 0)
    feed(url, "t3", count)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.create_topic_group('t3', 'g0', from_position => 0)")
        started, delivered = time.monotonic(), 0
        while row := connection.execute(
            "SELECT tandem.fill_topic(id, 1000) FROM tandem.topic_fill WHERE finished_at IS NULL"
        ).fetchone():
            delivered += row[0] or 0
        seconds = time.monotonic() - started
    return {"workload": "T3", "n": count, "delivered": delivered, "messages_s": round(delivered / seconds)}


async def pinned(url: str, count: int) -> dict[str, Any]:
    """T4: T2 with one group while another connection holds a snapshot that pins the horizon."""
    stop, holding = threading.Event(), threading.Event()

    def hold() -> None:
        with psycopg.connect(url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT count(*) FROM tandem.topic")
            holding.set()
            stop.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    try:
        return await throughput(url, "t4", 1, count) | {"workload": "T4"}
    finally:
        stop.set()
        thread.join()


def main() -> int:
    """Run all four; one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--replay", type=int, default=100_000)
    options = parser.parse_args()
    with server() as url:
        print(json.dumps(asyncio.run(latency(url))), flush=True)
        for groups in (1, 4):
            found = asyncio.run(throughput(url, f"t2x{groups}", groups, options.messages))
            print(json.dumps(found), flush=True)
        print(json.dumps(asyncio.run(pinned(url, options.messages))), flush=True)
        print(json.dumps(replay(url, options.replay)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
