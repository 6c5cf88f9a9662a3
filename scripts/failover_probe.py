"""scripts/failover: the outage of a failover as publishers and consumers see it. The faults of a run are scripts/chaos.

A round: a primary, a synchronous standby, a worker, a publisher; the primary is stopped at once; a watcher that asks it
every half second promotes the standby after three misses, as a failover manager would; then everything is counted.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from app.client import publish
from app.client.errors import TandemError
from app.config import CHECKOUT
from app.database.connect import connect, connect_sync
from app.domains.topics import repository, service
from app.domains.topics.example import ANALYTICS, CAMERAS
from app.domains.topics.schemas import Where
from scripts.chaos_rig.pair import Pair
from scripts.demo_run import Processes

LIMIT_SECONDS = 60.0
"""The promise: the longest outage of a failover."""
YEAR_SECONDS = 365 * 24 * 3600
MISSES, ASK_EVERY = 3, 0.5
SETTINGS = {
    "TANDEM_TOPICS__EXAMPLE": "true",
    "TANDEM_DATABASE__CALL_TIMEOUT_SECONDS": "5",
    "PYTHONPATH": str(CHECKOUT),
}


@dataclass(frozen=True)
class Round:
    """One failover. Seconds; counts of messages."""

    detected_s: float
    publish_outage_s: float
    consume_outage_s: float
    acknowledged: int
    unknown: int
    lost: int
    missing: int


class Publisher(threading.Thread):
    """Publishes `rate` messages a second; a call of unknown outcome is repeated with its key until it is known."""

    def __init__(self, url: str, rate: float) -> None:
        super().__init__(daemon=True)
        self.url, self.pause = url, 1 / rate
        self.acknowledged: list[tuple[str, float]] = []
        self.unknown = 0
        self.calm = threading.Event()

    def run(self) -> None:
        """Until `calm` is set; the message under way is still brought to an end."""
        number, connection = 0, None
        while not self.calm.is_set():
            key = f"event-{number}"
            try:
                if connection is None:
                    connection = connect_sync(self.url, name="publisher", call_timeout=5.0)
                publish(connection, CAMERAS, {"camera": f"gate-{number % 8}", "frame": key}, dedup_key=key)
            except (psycopg.Error, TandemError):
                self.unknown += 1
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.05)
                continue
            self.acknowledged.append((key, time.time()))
            number += 1
            time.sleep(self.pause)
        if connection is not None:
            connection.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the rounds and report; 0 when nothing was lost and no outage passed the limit."""
    options = _options(arguments)
    console = Console(stderr=options.json, highlight=False)
    rounds = []
    for number in range(1, options.rounds + 1):
        console.print(f"failover {number} of {options.rounds}")
        rounds.append(_round(options))
    report = _summary(rounds)
    console.print(_table(rounds))
    console.print(
        f"longest outage {report['longest_s']} s: {report['failovers_a_year']} such failovers a year are 99.99 %"
    )
    if options.json:
        sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["good"] else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many failovers (default 5)")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second (default 50)")
    parser.add_argument("--load-seconds", type=float, default=3.0, help="load before and after (default 3)")
    parser.add_argument("--pg-bin", type=Path, metavar="DIR", help="programs of another PostgreSQL")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    return parser.parse_args(arguments)


def _round(options: argparse.Namespace) -> Round:
    with tempfile.TemporaryDirectory(prefix="tandem-failover-") as name:
        place = Path(name)
        place.chmod(0o755)  # as root, the servers run under another account
        pair = Pair(place, options.pg_bin)
        audit = {"TANDEM_TOPICS__AUDIT_FOLDER": str(place / "audit")}
        processes = Processes({"DATABASE_URL": pair.url, **SETTINGS, **audit})
        try:
            asyncio.run(_prepare(pair.url))
            pair.wait_for(synchronous=True)
            return _fail_over(pair, processes, options)
        finally:
            processes.stop()
            pair.stop()


async def _prepare(url: str) -> None:
    async with await connect(url, name="failover") as connection:
        await service.create_topic(connection, CAMERAS, actor="failover")
        await service.create_group(connection, CAMERAS, ANALYTICS, Where(at="now"), actor="failover")


def _fail_over(pair: Pair, processes: Processes, options: argparse.Namespace) -> Round:
    worker = processes.start("failover-worker", "worker")
    publisher = Publisher(pair.url, options.rate)
    publisher.start()
    _until(
        lambda: worker.poll() is not None or len(_ends(pair.primary_url)) >= options.rate,
        "the worker consumes",
    )
    if worker.poll() is not None:
        raise RuntimeError("the worker ended: see .tandem/demo/failover-worker.log")
    time.sleep(options.load_seconds)
    gone = time.time()
    pair.primary.stop(mode="immediate")
    _until_dead(pair.primary_url)
    detected = time.time()
    pair.promote()
    _until(lambda: _calls_since(publisher, detected) >= options.rate, "publishing goes on")
    time.sleep(options.load_seconds)
    publisher.calm.set()
    publisher.join(60)
    groups = asyncio.run(_settled(pair.standby_url))
    ends = _ends(pair.standby_url)
    keys = {key for key, _ in publisher.acknowledged}
    return Round(
        detected_s=round(detected - gone, 2),
        publish_outage_s=_longest_gap([at for _, at in publisher.acknowledged], gone),
        consume_outage_s=_longest_gap(ends, gone),
        acknowledged=len(keys),
        unknown=publisher.unknown,
        lost=len(keys - _published(pair.standby_url)),
        missing=groups["missing"] + groups["waiting"] + groups["dead"],
    )


def _until_dead(url: str) -> None:
    """What a failover manager does: ask, and believe the third miss in a row."""
    misses = 0
    while misses < MISSES:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            misses = 0
        except psycopg.OperationalError:
            misses += 1
        time.sleep(ASK_EVERY)


async def _settled(url: str) -> dict[str, Any]:
    """Wait for the group to be done; its reconciliation."""
    end = time.monotonic() + LIMIT_SECONDS
    async with await connect(url, name="failover") as connection:
        while True:
            found = await repository.verify_group(connection, CAMERAS, ANALYTICS)
            if not found["waiting"] or time.monotonic() > end:
                return dict(found)
            await asyncio.sleep(0.2)


def _ends(url: str) -> list[float]:
    """When messages were acknowledged by the group, in order."""
    question = "SELECT finished_at FROM tandem.done WHERE outcome = 'SUCCEEDED' ORDER BY finished_at"
    return [_seconds(row[0]) for row in _rows(url, question)]


def _published(url: str) -> set[str]:
    """Keys of the messages in the log."""
    return {row[0] for row in _rows(url, "SELECT payload ->> 'frame' FROM tandem.message")}


def _rows(url: str, question: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()


def _seconds(at: datetime) -> float:
    return at.timestamp()


def _calls_since(publisher: Publisher, since: float) -> int:
    return sum(at > since for _, at in publisher.acknowledged[-1000:])


def _longest_gap(times: list[float], around: float) -> float:
    """The longest time without any, among the gaps that end after `around`."""
    return round(max(later - before for before, later in pairwise(times) if later > around), 2)


def _until(condition: Any, what: str) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s until {what}")
        time.sleep(0.05)


def _summary(rounds: list[Round]) -> dict[str, Any]:
    longest = max(max(one.publish_outage_s, one.consume_outage_s) for one in rounds)
    lost = sum(one.lost + one.missing for one in rounds)
    return {
        "rounds": [asdict(one) for one in rounds],
        "publish_outage_median_s": statistics.median(one.publish_outage_s for one in rounds),
        "consume_outage_median_s": statistics.median(one.consume_outage_s for one in rounds),
        "longest_s": longest,
        "failovers_a_year": int(YEAR_SECONDS * 0.0001 / longest),
        "lost": lost,
        "good": lost == 0 and longest <= LIMIT_SECONDS,
    }


def _table(rounds: list[Round]) -> Table:
    names = list(asdict(rounds[0]))
    table = Table(*(name.replace("_", " ") for name in names))
    for one in rounds:
        table.add_row(*(str(value) for value in asdict(one).values()))
    return table


if __name__ == "__main__":
    sys.exit(main())
