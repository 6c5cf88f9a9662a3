"""How long `tandem worker` and `tandem api` take from the command until they serve, and what memory they hold then.

Usage: python -m scripts.measure_start [--rounds 7] [--json]; figures stand in docs/performance.md. A throwaway server;
worker and API start by turns. Medians; `cpu_s` is the process's own time, which a busy machine changes little.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from time import monotonic, sleep
from typing import NamedTuple

import psutil
import psycopg

from app.config import CHECKOUT
from scripts.chaos_rig.processes import free_port
from scripts.throwaway import throwaway_server

PATIENCE = 60.0
SLEEPS = """
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1413565006 AND objid < 32 AND mode = 'ShareLock'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1"""


class Start(NamedTuple):
    """One start: seconds until it serves, seconds of CPU until then, resident megabytes then."""

    seconds: float
    cpu_s: float
    rss_mb: float


def start(url: str, *command: str, serves: Callable[[], bool]) -> Start:
    """Start a command of the console, wait until it serves, end it. Raises RuntimeError when it does not serve."""
    began = monotonic()
    environment = {**os.environ, "DATABASE_URL": url, "TANDEM_API__AUTH": "off"}
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [sys.executable, "-m", "app.cli", *command],
            cwd=CHECKOUT,
            env=environment,
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            while not serves():
                if process.poll() is not None or monotonic() - began > PATIENCE:
                    said.seek(0)
                    raise RuntimeError(
                        f"tandem {' '.join(command)} does not serve: {said.read().decode(errors='replace')[-500:]}"
                    )
                sleep(0.005)
            seconds, used = monotonic() - began, psutil.Process(process.pid)
            times = used.cpu_times()
            return Start(seconds, times.user + times.system, used.memory_info().rss / 1e6)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def measure(url: str, rounds: int) -> dict[str, list[Start]]:
    """Starts of the worker and of the API by turns, on a migrated database."""
    found: dict[str, list[Start]] = {"worker": [], "api": []}
    for _ in range(rounds):
        found["worker"].append(start(url, "worker", serves=_Sleeper(url)))
        port = free_port()
        found["api"].append(start(url, "api", "--port", str(port), serves=lambda: _answers(port)))  # noqa: B023
    return found


class _Sleeper:
    """Whether a worker that was not there before sleeps, and so serves."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def __call__(self) -> bool:
        serves = self._connection.execute(SLEEPS).fetchone() is not None
        if serves:
            self._connection.close()
        return serves


def _answers(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health/ready")
            connection.getresponse().read()
        except (OSError, HTTPException):
            return False
    return True


def medians(starts: list[Start]) -> dict[str, float]:
    """The median of each figure, rounded."""
    columns = zip(*starts, strict=True)
    return {
        name: round(statistics.median(column), 2) for name, column in zip(Start._fields, columns, strict=True)
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="starts of each")
    parser.add_argument("--json", action="store_true", help="one JSON line for each command")
    options = parser.parse_args()
    # Neither starts where a commit may be lost.
    with throwaway_server({"fsync": "on", "full_page_writes": "on"}) as url:
        for name, starts in measure(url, options.rounds).items():
            facts = medians(starts)
            if options.json:
                sys.stdout.write(json.dumps({"command": name, "rounds": options.rounds, **facts}) + "\n")
            else:
                sys.stdout.write(
                    f"{name}: {facts['seconds']} s, {facts['cpu_s']} s of CPU, {facts['rss_mb']} MB\n"
                )


if __name__ == "__main__":
    main()
