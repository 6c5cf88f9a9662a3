"""Runs a peer's program: starts it, reads what it says line by line, stops it by its pid, and never waits for ever."""

import contextlib
import json
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from scripts.bench.catalogue import Peer


class ProgramFailedError(Exception):
    """A peer's program ended badly or took too long; the text holds the end of what it wrote to standard error."""


class Program:
    """One started command of a peer's program. `facts` holds the latest value of everything it told."""

    def __init__(self, peer: Peer, command: str, url: str, spec: dict[str, Any], program: str) -> None:
        self.what = f"{peer.name} {command}"
        self.command = command
        self.facts: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._asked_to_stop = self._over = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        self.process = subprocess.Popen(
            [*peer.command(program), command, url, json.dumps(spec)],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=peer.surroundings(),
            start_new_session=True,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - we asked for a pipe
        for line in self.process.stdout:
            if line.startswith("{"):
                with self._changed:
                    self.facts.update(json.loads(line))
                    self._changed.notify_all()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=60.0)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, fact: str, seconds: float) -> Any:
        """The value of a fact once the program tells it. Raises ProgramFailedError."""
        with self._changed:
            self._changed.wait_for(lambda: fact in self.facts or self._over, timeout=seconds)
        if fact not in self.facts:
            code = self.process.poll()
            how = f"within {seconds:g} s" if code is None else f"before it ended with {code}"
            raise ProgramFailedError(f"{self.what}: no {fact!r} {how}: {self.errors()}")
        return self.facts[fact]

    def finish(self, seconds: float) -> dict[str, Any]:
        """Wait for its end. Raises ProgramFailedError."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ProgramFailedError(f"{self.what} took more than {seconds:g} s: {self.errors()}") from None
        self._reader.join(5.0)
        if code != 0:
            raise ProgramFailedError(f"{self.what} ended with {code}: {self.errors()}")
        return self.facts

    def ask_to_stop(self) -> None:
        """SIGTERM, once: to a program that already ends, a second one is the order to die at once."""
        if not self._asked_to_stop:
            self._asked_to_stop = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = 60.0) -> dict[str, Any]:
        """SIGTERM, and what it saved."""
        self.ask_to_stop()
        self.wait_for("saved", seconds)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5.0)
        return self.facts

    def kill(self) -> None:
        """End it now, with its children, if it still runs."""
        if self.process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.process.pid).children(recursive=True):
                    child.kill()
            self.process.kill()
            self.process.wait()
        self._reader.join(5.0)
        self._errors.close()
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()

    def rss_mb(self) -> float:
        """Resident memory now, in megabytes."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def errors(self) -> str:
        """The end of its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:].strip()


class Programs:
    """All programs of one run."""

    def __init__(self, peer: Peer, url: str, place: Path, program: str = "adapter") -> None:
        self.peer = peer
        self.url = url
        self.place = place
        self.program = program
        self.all: list[Program] = []
        self.workers: list[Program] = []
        self.killed: set[str] = set()
        """Process ids of workers that a workload has killed."""
        self.records: list[Path] = []
        self.produced: list[dict[str, Any]] = []

    def start(self, command: str, **spec: Any) -> Program:
        """Start one command."""
        program = Program(self.peer, command, self.url, spec, self.program)
        self.all.append(program)
        return program

    def setup(self) -> None:
        """Install the peer's schema."""
        self.start("setup").finish(120)

    def produce(self, mode: str, **spec: Any) -> dict[str, Any]:
        """Run a producer to its end."""
        return self.produced_by(self.begin_producing(mode, **spec), 60 + 3 * spec.get("seconds", 600))

    def begin_producing(self, mode: str, **spec: Any) -> Program:
        """Start a producer and wait until it begins."""
        batch = self.peer.bulk_batch if mode == "bulk" else self.peer.flood_batch
        program = self.start("produce", mode=mode, **{"batch": batch, **spec})
        program.wait_for("began", 60)
        return program

    def produced_by(self, program: Program, seconds: float) -> dict[str, Any]:
        """Wait for a producer's end and note what it committed."""
        facts = program.finish(seconds)
        self.produced.append(facts)
        return facts

    def start_workers(self, count: int, *, wait: bool = True, **spec: Any) -> list[Program]:
        """Start worker processes; with `wait` until all are ready."""
        for _ in range(count):
            out = self.place / f"record-{len(self.records)}"
            self.records.append(out)
            spec = {"queues": ["default"], **spec}
            self.workers.append(self.start("work", out=str(out), **spec))
        for worker in self.workers if wait else ():
            worker.wait_for("ready", 60)
        return self.workers

    def ran(self) -> int:
        """How many handlers have started by now in all workers, as last told."""
        return sum(worker.facts.get("ran", 0) for worker in self.workers)

    def stop_workers(self) -> None:
        """Let all drain and save; one that is still starting first gets to where it can hear that."""
        for worker in self.workers:
            worker.wait_for("ready", 60)
        for worker in self.workers:
            worker.ask_to_stop()
        for worker in self.workers:
            worker.stop()

    def ensure_alive(self) -> None:
        """Raises ProgramFailedError when a worker died."""
        for worker in self.workers:
            if worker.process.poll() is not None and "saved" not in worker.facts:
                raise ProgramFailedError(f"{worker.what} died: {worker.errors()}")

    def cpu(self, command: str) -> float:
        """CPU seconds of all ended programs of one command, from when they were ready."""
        return sum(float(one.facts.get("cpu", 0.0)) for one in self.all if one.command == command)


@contextlib.contextmanager
def programs(peer: Peer, url: str, program: str = "adapter") -> Iterator[Programs]:
    """The programs of one run, from the peer's file `program`; what still runs at the end of the block is killed."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as place:
        running = Programs(peer, url, Path(place), program)
        try:
            yield running
        finally:
            for one in running.all:
                one.kill()


def wait_until(condition: Callable[[], bool], seconds: float, *, every: float = 0.01) -> bool:
    """Look again and again; False when the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(every)
    return condition()
