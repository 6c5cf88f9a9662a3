"""The run's processes: each one on its own proxy, started again when it ends, ended by its own pid.

What an operator's supervisor would do, and what a fault does to a process. Decides nothing about when.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from app.config import CHECKOUT
from scripts.chaos_rig.proxy import FaultProxy

END_WITHIN = 40.0
"""Seconds within which a worker must end after SIGTERM; all its time limits together are less."""


class Managed:
    """One process. `proxy` stands between it and the server."""

    def __init__(
        self, name: str, module: list[str], proxy: FaultProxy, settings: Mapping[str, str], logs: Path
    ) -> None:
        self.name = name
        self.proxy = proxy
        self.own_ends = 0
        """How often it ended by itself, for instance because the database was away while it started."""
        self._command = [sys.executable, "-P", "-m", *module]
        self._environment = {
            **os.environ,
            "TANDEM_TOPICS__AUDIT_FOLDER": str(logs / "audit"),  # signed heads of this run's database alone
            **settings,
            "DATABASE_URL": proxy.url,
            "TANDEM_API__AUTH": "off",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
        }
        self._log = logs / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._wanted = False

    def start(self) -> None:
        """Start it, and want it to live from now on."""
        with self._lock, self._log.open("ab") as log:
            self._wanted = True
            self._process = subprocess.Popen(
                self._command,
                cwd=CHECKOUT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def tend(self) -> None:
        """Start it again if it ended by itself. Never waits: a fault may have it in its hands."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._wanted and self._process is not None and self._process.poll() is not None:
                self.own_ends += 1
                self.start()
        finally:
            self._lock.release()

    def kill(self, pause: float) -> bool:
        """SIGKILL, and after `pause` seconds a new one; False when it did not run."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return False
            process.kill()
            process.wait()
            time.sleep(pause)
            self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def pause(self, seconds: float) -> bool:
        """SIGSTOP for so long, then SIGCONT."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return False
            process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                process.send_signal(signal.SIGCONT)
        return True

    def terminate(self) -> bool:
        """SIGTERM, wait for its end, a new one. Raises TimeoutError when it does not end."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            self.stop()
            self.start()
        return True

    def stop(self) -> None:
        """SIGTERM and wait; SIGKILL and TimeoutError when it does not end in time."""
        with self._lock:
            self._wanted = False
            process = self._process
            if process is None or process.poll() is not None:
                return
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise TimeoutError(f"{self.name} did not end within {END_WITHIN:g} s of SIGTERM") from None

    def end_now(self) -> None:
        """SIGKILL for good."""
        with self._lock:
            self._wanted = False
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
