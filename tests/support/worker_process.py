"""A worker in a process of its own, with the handlers of tests.support.process_handlers: to be stopped and killed.

Run as `python -m tests.support.worker_process URL SETTINGS`; `WorkerProcess` does that for tests.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.config import CHECKOUT, DatabaseSettings
from tests.support.process_handlers import make_registry
from tests.support.supervised import quick_settings
from tests.support.waiting import eventually
from workers.leaving import leave_if_hanging
from workers.supervisor import Supervisor


class WorkerProcess:
    """A running worker process; `log` is what it wrote so far."""

    def __init__(self, url: str, log: Path, **options: Any) -> None:
        self._log = log
        command = [sys.executable, "-m", "tests.support.worker_process", url, json.dumps(options)]
        with log.open("w") as out:
            self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=out, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def started(self) -> "WorkerProcess":
        """Wait until it serves its queues."""
        eventually(lambda: " serves " in self.log or self.process.poll() is not None, timeout=60)
        assert self.process.poll() is None, self.log
        return self

    def killed(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait(30)

    def ended(self, timeout: float = 60) -> int:
        """Wait for its end; answers its exit code."""
        return self.process.wait(timeout)


@contextmanager
def worker_process(url: str, place: Path, **options: Any) -> Iterator[WorkerProcess]:
    """A worker process for the length of a block, not waited for; it is killed at the end if it still runs.

    `options` are settings of the worker; `sweep`, `sweeper` and `database` change what their names say.
    """
    number = len(list(place.glob("worker-*.log")))
    worker = WorkerProcess(url, place / f"worker-{number}.log", **options)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.signal(signal.SIGCONT)
            worker.process.kill()
        worker.process.wait(30)


def gone(pid: int) -> bool:
    """Whether no such process is left; one that is dead and not yet collected counts as gone."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


async def run(url: str, options: dict[str, Any]) -> None:
    """What the process does."""
    sweep, database = options.pop("sweep", True), DatabaseSettings(**options.pop("database", {}))
    settings = quick_settings(database=database, **options)
    supervisor = Supervisor(settings, url, make_registry(url), sweep=sweep)
    await supervisor.run()
    leave_if_hanging(supervisor)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2])))
