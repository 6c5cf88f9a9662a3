"""The private PostgreSQL of a chaos run: fsync on, made for this run, crashed and restarted at will, removed after."""

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from app.database import embedded, migrate
from scripts.chaos_rig import ledger, observer

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "restart_after_crash": "on",
}


RECOVERY_SECONDS = 30.0


class PrivateServer:
    """One cluster. Restarts are one at a time, whoever asks."""

    def __init__(self, base: Path, binaries: Path | None) -> None:
        self.cluster = embedded.cluster_at(base, SETTINGS, binaries)
        self.url = self.cluster.url(self.cluster.start())
        self._restarting = threading.Lock()

    def crash_and_restart(self) -> bool:
        """pg_ctl stop -m immediate, then start; False when another restart is under way."""
        if not self._restarting.acquire(blocking=False):
            return False
        try:
            self.cluster.stop(mode="immediate")
            self.cluster.start()
        finally:
            self._restarting.release()
        return True

    def ensure_running(self) -> None:
        """Wait for a restart under way, and start the server if it does not run."""
        with self._restarting:
            self.cluster.start()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection around every proxy; waits for a crashed server to recover."""
        end = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                return psycopg.connect(self.url, autocommit=True, connect_timeout=5, application_name="chaos")
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def terminate_backends(self) -> int:
        """End every other session; answers how many there were."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND application_name <> 'chaos'"
            ).fetchone()
        return int(row[0]) if row else 0

    def kill_backend(self, choice: random.Random) -> bool:
        """SIGKILL one session's process: the server crashes and restarts by itself."""
        with self.connect() as connection:
            pids = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND application_name <> 'chaos' ORDER BY pid"
            ).fetchall()
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(choice.choice(pids)[0], signal.SIGKILL)
        return True

    def log(self) -> str:
        """What the server said."""
        return self.cluster.log.read_text(errors="replace")


@contextlib.contextmanager
def private_server(binaries: Path | None) -> Iterator[PrivateServer]:
    """A migrated server with a ledger, for the length of a block."""
    # Below the system's directory for such things: as root the server's account must be able to enter.
    place = Path(tempfile.mkdtemp(prefix="tandem-chaos-"))
    place.chmod(0o755)
    server: PrivateServer | None = None
    try:
        server = PrivateServer(place / "pg", binaries)
        migrate.upgrade(server.url)
        with server.connect() as connection:
            connection.execute(ledger.MAKE)
            observer.make(connection)
        yield server
    finally:
        if server is not None:
            server.cluster.stop(mode="immediate")
        shutil.rmtree(place, ignore_errors=True)
