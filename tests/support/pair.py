"""A primary and its standby, made by pg_basebackup, to be cut off, promoted and brought back."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

from app.database import embedded, migrate
from app.database.account import as_account, give
from app.database.cluster import Cluster
from tests.support import servers
from tests.support.waiting import eventually

STANDBY = "standby"
SETTINGS = {
    **servers.CARELESS,
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_wal_senders": "4",
    "wal_keep_size": "256MB",
    "wal_receiver_status_interval": "1s",
    "hot_standby": "on",
}


class Pair:
    """Two clusters; `url` names both and leads to the one that takes writes."""

    def __init__(self, place: Path, binaries: Path | None) -> None:
        self.primary = embedded.cluster_at(
            place / "primary", {**SETTINGS, "cluster_name": "primary"}, binaries
        )
        self.standby = embedded.cluster_at(place / "standby", {**SETTINGS, "cluster_name": STANDBY}, binaries)
        self.primary_url = self.primary.url(self.primary.start())
        migrate.upgrade(self.primary_url)
        self._copy()
        self.start_standby()

    @property
    def standby_url(self) -> str:
        """The standby's own address."""
        running = self.standby.running()
        assert running is not None
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
        eventually(lambda: _in_recovery(self.standby_url), timeout=60)

    def stop_standby(self) -> None:
        """Take it away at once: what the primary writes from now on, it never sees."""
        self.standby.stop(mode="immediate")

    def promote(self) -> None:
        """Make the standby the primary and wait until it takes writes."""
        self._control("-w", "promote")
        eventually(lambda: not _in_recovery(self.standby_url), timeout=60)

    def wait_for(self, *, synchronous: bool) -> None:
        """Let COMMIT wait for the standby, or not; returns when it is so and the standby has everything."""
        with psycopg.connect(self.primary_url, autocommit=True) as connection:
            names = STANDBY if synchronous else ""
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        eventually(lambda: self._caught_up("sync" if synchronous else "async"), timeout=60)

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
        assert failed == "", failed
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


def _in_recovery(url: str) -> bool:
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    except psycopg.OperationalError as error:
        raise AssertionError(str(error)) from error


@contextlib.contextmanager
def server_pair(binaries: Path | None) -> Iterator[Pair]:
    """A migrated primary with a standby that follows it, for the length of a block."""
    with servers.open_directory() as place:
        pair: Pair | None = None
        try:
            pair = Pair(place, binaries)
            yield pair
        finally:
            if pair is not None:
                pair.stop()
