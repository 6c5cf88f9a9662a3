"""A primary and its standby, made by pg_basebackup, to be cut off, promoted and brought back."""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg

from app.database import embedded, migrate
from app.database.account import as_account, give
from app.database.cluster import Cluster

STANDBY = "standby"
SETTINGS = {
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_wal_senders": "4",
    "wal_keep_size": "256MB",
    "wal_receiver_status_interval": "1s",
    "hot_standby": "on",
}


class Pair:
    """Two clusters; `url` names both and leads to the one that takes writes. `more` settings go to both."""

    def __init__(self, place: Path, binaries: Path | None, more: Mapping[str, str] | None = None) -> None:
        settings = {**(more or {}), **SETTINGS}
        self.primary = embedded.cluster_at(
            place / "primary", {**settings, "cluster_name": "primary"}, binaries
        )
        self.standby = embedded.cluster_at(place / "standby", {**settings, "cluster_name": STANDBY}, binaries)
        self.primary_url = self.primary.url(self.primary.start())
        migrate.upgrade(self.primary_url)
        self._copy()
        self.start_standby()

    @property
    def standby_url(self) -> str:
        """The standby's own address."""
        running = self.standby.running()
        if running is None:
            raise RuntimeError("the standby does not run")
        return self.standby.url(running)

    @property
    def url(self) -> str:
        """Both hosts, the old primary first; a client takes the first that accepts writes."""
        places = [self._socket(cluster) for cluster in (self.primary, self.standby)]
        hosts = quote(",".join(host for host, _ in places), safe=",")
        ports = ",".join(port for _, port in places)
        return f"postgresql://tandem@/tandem?host={hosts}&port={ports}&target_session_attrs=read-write"

    def start_standby(self) -> None:
        """Start it and wait until it can be read."""
        self._control("-l", str(self.standby.log), "-w", "start")
        _until(lambda: _in_recovery(self.standby_url), "the standby can be read")

    def stop_standby(self) -> None:
        """Take it away at once: what the primary writes from now on, it never sees."""
        self.standby.stop(mode="immediate")

    def promote(self) -> None:
        """Make the standby the primary and wait until it takes writes."""
        self._control("-w", "promote")
        _until(lambda: _in_recovery(self.standby_url) is False, "the standby takes writes")

    def wait_for(self, *, synchronous: bool) -> None:
        """Let COMMIT wait for the standby, or not; returns when it is so and the standby has everything."""
        with psycopg.connect(self.primary_url, autocommit=True) as connection:
            names = STANDBY if synchronous else ""
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        _until(lambda: self._caught_up("sync" if synchronous else "async"), "the standby has everything")

    def release(self) -> None:
        """Let COMMIT no longer wait, also those that wait now."""
        with psycopg.connect(self.primary_url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            connection.execute("SELECT pg_reload_conf()")

    def stop(self) -> None:
        """Stop both."""
        for cluster in (self.standby, self.primary):
            cluster.stop(mode="immediate")

    def _caught_up(self, state: str) -> bool:
        question = (
            "SELECT sync_state FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_insert_lsn()"
        )
        with psycopg.connect(self.primary_url, autocommit=True) as connection:
            return connection.execute(question).fetchall() == [(state,)]

    def _copy(self) -> None:
        base = self.standby.base
        base.mkdir(mode=0o700)
        give(base, self.standby.account)
        host, port = self._socket(self.primary)
        source = f"host={host} port={port} user=tandem"
        failed = self.standby._run(
            "pg_basebackup",
            "-d",
            source,
            "-D",
            self.standby.data,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        )
        if failed:
            raise RuntimeError(failed)
        self.standby._configure(first_choice=False)

    def _control(self, *arguments: str) -> None:
        # Not Cluster.start: it waits for a server that is ready to write.
        subprocess.run(
            [self.standby.binaries / "pg_ctl", "-D", self.standby.data, "-t", "60", *arguments],
            **as_account(self.standby.account),
            cwd=self.standby.base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    @staticmethod
    def _socket(cluster: Cluster) -> tuple[str, str]:
        port = (cluster.base / "port").read_text().strip()
        return str(cluster._socket_directory()), port


def _in_recovery(url: str) -> bool | None:
    """None while nobody answers."""
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    except psycopg.OperationalError:
        return None


def _until(condition: Callable[[], bool | None], what: str) -> None:
    """Wait for a minute at most. Raises TimeoutError."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited 60 s until {what}")
        time.sleep(0.02)
