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
from dataclasses import dataclass
from typing import Any

import psutil

from app.config import CHECKOUT
from scripts.bench.evidence import percentiles
from scripts.bench.programs import ProgramFailedError, wait_until
from scripts.bench.workloads import Run

ACCEPTED = "202"
OUR_EVENTS = "SELECT count(*) FROM public.conversation_events AS e JOIN tandem.job AS j ON j.id = e.job_id"
THEIR_EVENTS = "SELECT count(*) FROM public.minimal_event"


@dataclass(frozen=True)
class Load:
    """What the clients saw of one server, and what that took."""

    requests: int
    requests_s: float
    p50: float
    p95: float
    p99: float
    refused: int
    warm_up: int
    server_cpu_us: float


def w9(run: Run) -> None:
    """Tandem's API and the minimal handler in turn, from `conns` clients; the ratio is of requests per second."""
    url, clients, seconds = run.programs.url, run.options.conns, run.options.seconds or 10.0
    run.begin()
    with _api(["-m", "app.cli", "api"], url) as (port, process):
        ours = _load(port, process, clients, seconds)
        run.line.rss_mb = process.memory_info().rss / 1e6
    before = run.before
    cost = run.meter.read()
    with _api(
        ["-m", "uvicorn", "scripts.bench.minimal_api:app", "--log-level", "warning", "--no-access-log"], url
    ) as (
        port,
        process,
    ):
        theirs = _load(port, process, clients, seconds)
    line = run.line
    line.n, line.jobs_s = ours.requests, ours.requests_s
    line.p50_ms, line.p95_ms, line.p99_ms = ours.p50, ours.p95, ours.p99
    line.ratio = ours.requests_s / theirs.requests_s
    if before is not None:
        per_job = cost.since(before).per_job(ours.requests + ours.warm_up)
        line.wal_bytes_per_job = per_job["wal_per_job"]
        line.statements_per_job = per_job["statements_per_job"]
    line.detail = {
        "minimal_s": theirs.requests_s,
        "minimal_p50_ms": theirs.p50,
        "minimal_p95_ms": theirs.p95,
        "minimal_p99_ms": theirs.p99,
        "api_cpu_us": ours.server_cpu_us,
        "minimal_cpu_us": theirs.server_cpu_us,
    }
    written = run.meter.number(OUR_EVENTS), run.meter.number(THEIR_EVENTS)
    line.lost = max(0, ours.requests + ours.warm_up - written[0])
    line.doubled = max(0, written[0] - ours.requests - ours.warm_up)
    if (
        ours.refused
        or theirs.refused
        or line.lost
        or line.doubled
        or written[1] != theirs.requests + theirs.warm_up
    ):
        line.void = (
            f"refused {ours.refused} and {theirs.refused}, in the database {written[0]} and {written[1]}"
        )


@contextlib.contextmanager
def _api(module: list[str], url: str) -> Iterator[tuple[int, psutil.Process]]:
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


def _load(port: int, server: psutil.Process, clients: int, seconds: float) -> Load:
    used = _cpu(server)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scripts.bench.http_load", str(port), str(clients), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        raise ProgramFailedError(f"the clients failed: {done.stderr.decode(errors='replace')[-2000:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    accepted = facts["statuses"].get(ACCEPTED, 0)
    return Load(
        accepted,
        accepted / facts["seconds"],
        *percentiles(facts["waits"]),
        refused=sum(facts["statuses"].values()) - accepted,
        warm_up=facts["warm_up"],
        server_cpu_us=(_cpu(server) - used) / max(1, accepted + facts["warm_up"]) * 1e6,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
