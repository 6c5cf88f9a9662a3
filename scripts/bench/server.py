"""The server of a benchmark: a throwaway embedded PostgreSQL with the settings of the performance page.

Every measurement gets a fresh database on it, reached over TCP on loopback.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from app.config import CHECKOUT
from app.database import embedded
from app.database.account import can_reach, server_account

OBSERVER = "observer"
# What a server ships with, where the development server differs; then the performance page's own settings.
SETTINGS = {
    "max_connections": "1000",  # `conns` needs them; each is a slot in shared memory, used or not
    "wal_compression": "off",
    "random_page_cost": "4",
    "autovacuum_naptime": "1min",
    "autovacuum_vacuum_cost_delay": "2ms",
    "checkpoint_timeout": "15min",
    "client_connection_check_interval": "0",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "min_wal_size": "2GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "top",
}


@dataclass(frozen=True)
class Server:
    """A running server: its address and its postmaster's pid."""

    url: str
    pid: int

    def address(self, database: str, *, observer: bool = False) -> str:
        """The address of a database; the observer's statements are left out of all counts."""
        parts = urlsplit(self.url)
        location = parts.netloc.rpartition("@")[2]
        who = f"{OBSERVER}:{OBSERVER}" if observer else parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{who}@{location}", path=f"/{database}"))

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A fresh empty database for the length of a block; yields its address."""
        with psycopg.connect(self.address("postgres", observer=True), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            # Dirty pages and the extra WAL of first changes after a checkpoint belong to the run before.
            connection.execute("CHECKPOINT")
        try:
            with psycopg.connect(self.address(name, observer=True), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION pg_stat_statements")
            yield self.address(name)
        finally:
            with psycopg.connect(self.address("postgres", observer=True), autocommit=True) as connection:
                connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                )


@contextlib.contextmanager
def benchmark_server() -> Iterator[Server]:
    """A new server for the length of a block; its data go with it, also those that a killed run left."""
    home = _home()
    _remove_leftovers(home)
    place = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    place.chmod(0o755)
    held = os.open(place / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    cluster = embedded.cluster_at(place / "postgres", SETTINGS)
    try:
        postmaster = cluster.start()
        server = Server(cluster.url(postmaster, database="postgres", tcp=True), postmaster.pid)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE observer SUPERUSER LOGIN PASSWORD 'observer'")
        yield server
    finally:
        cluster.stop(mode="immediate")
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _home() -> Path:
    """A directory on a real disk that the server's account can enter: in the checkout if possible."""
    home = CHECKOUT / ".tandem" / "bench" / "servers"
    home.mkdir(parents=True, exist_ok=True)
    for path in (home.parent.parent, home.parent, home):
        path.chmod(0o755)
    if not can_reach(server_account(home / "data"), home):
        home = embedded.SHARED_STATE / "bench"
        home.mkdir(parents=True, exist_ok=True)
        for path in (home.parent, home):
            path.chmod(0o755)
    return home


def _remove_leftovers(home: Path) -> None:
    for place in home.glob("run-*"):
        if time.time() - place.stat().st_mtime < 10:
            continue  # its lock may not be there yet
        held = os.open(place / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            embedded.cluster_at(place / "postgres", SETTINGS).stop(mode="immediate")
            shutil.rmtree(place, ignore_errors=True)
        except BlockingIOError:
            pass  # that run is alive
        finally:
            os.close(held)
