"""Several processes kept alive: started again after a death, ended on a signal, none left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from app.cli import processes
from app.cli.processes import Child
from app.config import CHECKOUT
from app.queue.job import NewJob
from tests.support.jobs import enqueue_all, unfinished
from tests.support.waiting import eventually


@contextlib.contextmanager
def tandem(url: str, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A command of its own process, killed with all its children when the block ends."""
    running = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": url, "TANDEM_WORKER__DRAIN_SECONDS": "2", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    family = psutil.Process(running.pid)
    try:
        yield running
    finally:
        members = [family, *family.children(recursive=True)] if family.is_running() else []
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        running.communicate()


def workers(url: str) -> list[tuple[Any, ...]]:
    """(name, stopped) of the workers that registered, in order."""
    with psycopg.connect(url) as connection:
        query = "SELECT name, stopped_at IS NOT NULL FROM tandem.worker ORDER BY started_at"
        return connection.execute(query).fetchall()


def pid(name: str) -> int:
    """A worker's process id; its name is host:pid."""
    return int(name.rpartition(":")[2])


@pytest.mark.chaos
def test_workers_are_kept_alive_and_drain_together(db_url: str) -> None:
    with tandem(db_url, "worker", "--processes", "2", "--queues", "default=2,mail", "--slots", "3") as parent:
        eventually(lambda: len(workers(db_url)) == 2, timeout=60)
        first, second = (pid(name) for name, _ in workers(db_url))
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(workers(db_url)) == 3, timeout=60)
        third = pid(workers(db_url)[2][0])
        with psycopg.connect(db_url) as connection:
            query = "SELECT DISTINCT queues, concurrency FROM tandem.worker"
            assert connection.execute(query).fetchall() == [(["default", "mail"], 3)]
        parent.send_signal(signal.SIGTERM)
        said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 0
    assert re.search(r"worker [12] ended with code -9 and starts again in \d\.\d s", said)
    assert [stopped for _, stopped in workers(db_url)] == [False, True, True]
    assert not any(psutil.pid_exists(one) for one in (first, second, third))


HOLDING = """
import asyncio
from pathlib import Path
from app.queue.kinds import Registry

registry = Registry()

@registry.handler("hold")
async def hold(job):
    while not Path(job.payload["go"]).exists():
        await asyncio.sleep(0.05)
"""


@pytest.mark.chaos
def test_processes_grow_under_a_backlog_shrink_when_idle_and_drain_together(
    db_url: str, tmp_path: Path
) -> None:
    (tmp_path / "holding_handlers.py").write_text(HOLDING)
    go = tmp_path / "go"

    def living() -> int:
        return sum(not stopped for _, stopped in workers(db_url))

    def backlog() -> None:
        enqueue_all(db_url, [NewJob("hold", {"go": str(go)})] * 60)

    arguments = ["--processes", "auto:1-3", "--queues", "default", "--slots", "2"]
    handlers = ["--handlers", "holding_handlers:registry"]
    quick = {"TANDEM_WORKER__SCALE_UP_SECONDS": "0.2", "TANDEM_WORKER__SCALE_DOWN_SECONDS": "1"}
    with tandem(
        db_url, "worker", *arguments, *handlers, PYTHONPATH=f"{CHECKOUT}:{tmp_path}", **quick
    ) as parent:
        eventually(lambda: living() == 1, timeout=60)
        backlog()
        eventually(lambda: living() == 3, timeout=90)
        go.touch()
        eventually(lambda: unfinished(db_url) == 0 and living() == 1, timeout=90)
        assert len(workers(db_url)) == 3, "the most was never passed"
        go.unlink()
        backlog()
        eventually(lambda: living() >= 2, timeout=60)
        parent.send_signal(signal.SIGTERM)
        said, _ = parent.communicate(timeout=90)
    assert parent.returncode == 0, said
    assert living() == 0
    assert "2 worker processes from now on, 1 before" in said
    assert "starts again" not in said
    assert not any(psutil.pid_exists(pid(name)) for name, _ in workers(db_url))


@pytest.mark.chaos
def test_each_process_serves_its_metrics_on_its_own_port(db_url: str) -> None:
    with tandem(
        db_url, "worker", "--processes", "2", "--metrics-port", "0", TANDEM_LOGGING__LEVEL="INFO"
    ) as parent:
        eventually(lambda: len(workers(db_url)) == 2, timeout=60)
        parent.send_signal(signal.SIGINT)
        said, _ = parent.communicate(timeout=60)
    ports = re.findall(r"metrics at http://127\.0\.0\.1:(\d+)/", said)
    assert parent.returncode == 0
    assert len(set(ports)) == 2


@pytest.mark.chaos
def test_up_serves_works_and_ends_together(empty_db_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tandem(empty_db_url, "up", "--port", str(port), "--workers", "2") as parent:
        eventually(lambda: ready(port), timeout=60)
        eventually(lambda: len(workers(empty_db_url)) == 2, timeout=60)
        parent.send_signal(signal.SIGTERM)
        said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 0
    assert f"http://127.0.0.1:{port}/docs" in said
    assert [stopped for _, stopped in workers(empty_db_url)] == [True, True]
    assert not ready(port)


def ready(port: int) -> bool:
    """Whether the API on this port takes requests."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    return False


def test_the_schema_is_checked_before_anything_starts(empty_db_url: str) -> None:
    with tandem(empty_db_url, "worker", "--processes", "3") as parent:
        said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "tandem db upgrade" in said
    assert len(said.splitlines()) == 1


def test_a_child_that_keeps_dying_is_started_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    starts: list[float] = []

    class Dead:
        """A process that ends as soon as it starts."""

        def __init__(self, *_: Any, **__: Any) -> None:
            starts.append(now)

        def poll(self) -> int:
            return 3

    monkeypatch.setattr(processes, "monotonic", lambda: now)
    monkeypatch.setattr("app.cli.processes.subprocess.Popen", Dead)
    monkeypatch.setattr("app.database.backoff.random.uniform", lambda _, ceiling: ceiling)
    child = Child("worker", ["worker"])
    while now < 60:
        child.look()
        now += 0.25
    waits = [later - earlier for earlier, later in zip(starts, starts[1:], strict=False)]
    assert waits[:3] == sorted(waits[:3])
    assert waits[0] < 1.5
    assert max(waits) <= 11


def test_a_child_that_lived_long_is_started_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now, code = 0.0, None

    class Process:
        """A process that ends when the test says so."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def poll(self) -> int | None:
            return code

    monkeypatch.setattr(processes, "monotonic", lambda: now)
    monkeypatch.setattr("app.cli.processes.subprocess.Popen", Process)
    monkeypatch.setattr("app.database.backoff.random.uniform", lambda _, ceiling: ceiling)
    child = Child("worker", ["worker"])
    for _ in range(5):
        child.backoff.next()
    child.look()
    now, code = processes.SETTLED_SECONDS + 1, 1
    child.look()
    assert child.start_at == now + 0.5


def test_what_does_not_end_is_killed() -> None:
    deaf = Child("deaf", [])
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " print('ready', flush=True); time.sleep(600)"
    )
    deaf.process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert deaf.process.stdout is not None
    assert deaf.process.stdout.readline() == b"ready\n"
    processes._end([deaf], [signal.SIGTERM], grace=0.2)
    assert deaf.process.poll() == -signal.SIGKILL
    deaf.process.stdout.close()
