"""W9: the main job over HTTP against one API process, and the minimal handler beside it in the same run.

Without a worker: what is measured is the way of an event and its job into the database.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from app.config import CHECKOUT
from scripts.bench.evidence import percentiles
from scripts.bench.programs import ProgramFailedError, wait_until
from scripts.bench.workloads import Run

ACCEPTED = "202"
SLICES = 4
OURS = ["-m", "app.cli", "api"]
THEIRS = ["-m", "uvicorn", "scripts.bench.minimal_api:app", "--log-level", "warning", "--no-access-log"]
OUR_EVENTS = "SELECT count(*) FROM public.conversation_events AS e JOIN tandem.job AS j ON j.id = e.job_id"
THEIR_EVENTS = "SELECT count(*) FROM public.minimal_event"


@dataclass
class Load:
    """What the clients saw of one server over all slices, and what that took. `waits` in milliseconds."""

    requests: int = 0
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    warm_up: int = 0
    cpu: float = 0.0
    rates: list[float] = field(default_factory=list)

    @property
    def requests_s(self) -> float:
        """Accepted requests per second of measurement."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU of the API process for one request."""
        return self.cpu / max(1, self.sent) * 1e6

    @property
    def sent(self) -> int:
        """Accepted requests, those of the warm-up included."""
        return self.requests + self.warm_up


def w9(run: Run) -> None:
    """Tandem's API and the minimal handler by turns, from `conns` clients; the ratio is of requests per second.

    Both processes are up and take slices in turn, so that a slow moment of the machine hits both.
    """
    url, clients, seconds = run.programs.url, run.options.conns, run.options.seconds or 10.0
    ours, theirs = Load(), Load()
    with serving(OURS, url) as (our_port, our_process), serving(THEIRS, url) as (their_port, their_process):
        for slice_ in range(SLICES):
            if slice_ == 0:
                run.begin()
            load_slice(ours, our_port, our_process, clients, seconds / SLICES, slice_)
            if slice_ == 0:
                _count_cost(run, ours)
            load_slice(theirs, their_port, their_process, clients, seconds / SLICES, slice_)
        run.line.rss_mb = our_process.memory_info().rss / 1e6
    line = run.line
    line.n, line.jobs_s = ours.requests, ours.requests_s
    line.p50_ms, line.p95_ms, line.p99_ms = percentiles(ours.waits)
    line.ratio = ours.requests_s / theirs.requests_s
    p50, p95, p99 = percentiles(theirs.waits)
    line.detail = {
        "minimal_s": theirs.requests_s,
        "minimal_p50_ms": p50,
        "minimal_p95_ms": p95,
        "minimal_p99_ms": p99,
        "api_cpu_us": ours.cpu_us,
        "minimal_cpu_us": theirs.cpu_us,
        "ratios": [round(mine / other, 3) for mine, other in zip(ours.rates, theirs.rates, strict=True)],
    }
    written = run.meter.number(OUR_EVENTS), run.meter.number(THEIR_EVENTS)
    sent = ours.requests + ours.warm_up, theirs.requests + theirs.warm_up
    line.lost, line.doubled = max(0, sent[0] - written[0]), max(0, written[0] - sent[0])
    if ours.refused or theirs.refused or written != sent:
        line.void = (
            f"refused {ours.refused} and {theirs.refused}, in the database {written[0]} and {written[1]}"
        )


def _count_cost(run: Run, ours: Load) -> None:
    """Statements and bytes of our first slice: the other server's would be counted with those of later ones."""
    if run.before is not None:
        per_job = run.meter.read().since(run.before).per_job(ours.requests + ours.warm_up)
        run.line.wal_bytes_per_job = per_job["wal_per_job"]
        run.line.statements_per_job = per_job["statements_per_job"]


@contextlib.contextmanager
def serving(module: list[str], url: str) -> Iterator[tuple[int, psutil.Process]]:
    """One server process on a free port, up and answering."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    surroundings = {
        **os.environ,
        "DATABASE_URL": url,
        "TANDEM_API__AUTH": "off",
        "PYTHONPATH": str(CHECKOUT),
        "TANDEM_LOGGING__LEVEL": "WARNING",
    }
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", *module, "--port", str(port)],
            env=surroundings,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        try:
            if not wait_until(lambda: _answers(port), 30.0, every=0.1) or process.poll() is not None:
                errors.seek(0)
                raise ProgramFailedError(
                    f"the API did not start: {errors.read().decode(errors='replace')[-2000:]}"
                )
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5):
            return True
    except OSError:
        return False


def load_slice(
    to: Load, port: int, server: psutil.Process, clients: int, seconds: float, slice_: int
) -> None:
    """Let the clients send for some seconds; each `slice_` has others. Raises ProgramFailedError."""
    used = _cpu(server)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.bench.http_load", *map(str, (port, clients, seconds, slice_))],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        raise ProgramFailedError(f"the clients failed: {done.stderr.decode(errors='replace')[-2000:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    accepted = facts["statuses"].get(ACCEPTED, 0)
    to.requests += accepted
    to.seconds += facts["seconds"]
    to.rates.append(accepted / facts["seconds"])
    to.waits += facts["waits"]
    to.refused += sum(facts["statuses"].values()) - accepted
    to.warm_up += facts["warm_up"]
    to.cpu += _cpu(server) - used


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
