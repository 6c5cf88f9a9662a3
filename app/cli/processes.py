"""Keeping child processes alive: starts them, starts dead ones again, ends them in order on a signal.

For `tandem up` and `tandem worker --processes`. Children are commands of this command line; nothing is shared.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

import typer

from app.config import CHECKOUT
from app.database.backoff import Backoff

LOOK_EVERY = 0.1
SETTLED_SECONDS = 30.0
"""A process that lived this long begins again with the shortest wait."""


@dataclass
class Child:
    """One command, and the process that runs it now."""

    name: str
    command: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 10.0))
    leaving: bool = False

    def start(self) -> None:
        """Start the process in a session of its own: Ctrl-C reaches us alone, and we end the children in order."""
        arguments = [sys.executable, "-P", "-m", "app.cli", *self.command]
        self.process = subprocess.Popen(arguments, env=_environment(), start_new_session=True)
        self.started_at = monotonic()

    def look(self) -> None:
        """Start it when it is time to; note its death, and when to start it again, unless it was let go."""
        if self.leaving:
            return
        if self.process is None:
            if monotonic() >= self.start_at:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        if monotonic() - self.started_at >= SETTLED_SECONDS:
            self.backoff.reset()
        wait = self.backoff.next()
        typer.echo(f"{self.name} ended with code {code} and starts again in {wait:.1f} s", err=True)
        self.process, self.start_at = None, monotonic() + wait

    def let_go(self) -> None:
        """Let it end its work, and do not start it again."""
        self.leaving = True
        self.tell(signal.SIGTERM)

    def tell(self, number: int) -> None:
        """Send a signal, if there is somebody to hear it."""
        if self.alive and self.process is not None:
            self.process.send_signal(number)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None


def _environment() -> dict[str, str]:
    """Ours, with this checkout on the path: however we were started, a child finds the same code."""
    given = dict(os.environ)  # layout: environment - handed on as it is, nothing is read from it
    before = given.get("PYTHONPATH")
    return given | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), *([before] if before else [])])}


def keep_running(
    children: list[Child], *, grace: float, scale: Callable[[list[Child]], None] | None = None
) -> None:
    """Keep them alive until SIGTERM or SIGINT, then end them: SIGTERM, the last started first, and wait.

    `scale` is called at each look and may add children, or let some go.

    A further signal is passed on, which lets workers not wait for their jobs. What lives after `grace` seconds is
    killed. Returns when all have ended. Call it from the main thread.
    """
    signals: list[int] = []
    before = {
        number: signal.signal(number, lambda got, _: signals.append(got))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        while not signals:
            if scale is not None:
                scale(children)
            for child in children:
                child.look()
            children[:] = [child for child in children if child.alive or not child.leaving]
            time.sleep(LOOK_EVERY)
    finally:
        try:
            _end(children, signals, grace)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _end(children: Sequence[Child], signals: list[int], grace: float) -> None:
    passed_on = len(signals)
    for child in reversed(children):
        if not child.leaving:  # it was told already, and a second time means not to wait
            child.tell(signal.SIGTERM)
    until = monotonic() + grace
    while any(child.alive for child in children):
        if len(signals) > passed_on:
            passed_on = len(signals)
            for child in reversed(children):
                child.tell(signal.SIGTERM)
        if monotonic() > until:
            for child in children:
                child.tell(signal.SIGKILL)
        time.sleep(LOOK_EVERY)
