"""Throwaway PostgreSQL servers below one directory in /tmp; what a killed run left goes at the next start."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.database import embedded
from app.database.cluster import Cluster

# Nothing of these servers is ever needed again, so they need not survive a power failure.
CARELESS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "autovacuum_naptime": "60s",
}


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A new directory that the server's account can enter, removed afterwards with the servers below it.

    pytest's tmp_path is closed to other accounts, and as root the server runs under another one.
    """
    home = Path(tempfile.gettempdir()) / f"tandem-tests-{os.geteuid()}"
    home.mkdir(exist_ok=True)
    home.chmod(0o755)
    _remove_leftovers(home)
    place = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    place.chmod(0o755)
    held = os.open(place / "lock.new", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    # Others look for the final name, so they never find it unlocked while this run lives.
    (place / "lock.new").rename(place / "lock")
    try:
        yield place
    finally:
        _remove(place)
        os.close(held)


@contextlib.contextmanager
def server(
    place: Path, settings: Mapping[str, str], *, binaries: Path | None = None
) -> Iterator[tuple[Cluster, str]]:
    """A running server below `place` for the length of a block, with the address of its database."""
    base = Path(tempfile.mkdtemp(prefix="pg-", dir=place))
    cluster = embedded.cluster_at(base, settings, binaries)
    try:
        yield cluster, cluster.url(cluster.start())
    finally:
        cluster.stop(mode="immediate")


def _remove_leftovers(home: Path) -> None:
    for place in home.glob("run-*"):
        try:
            held = os.open(place / "lock", os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(place)
        except BlockingIOError:
            pass  # that run is alive
        finally:
            os.close(held)


def _remove(place: Path) -> None:
    for data in [*place.glob("*/data"), *place.glob("**/.tandem/postgres/data")]:
        with contextlib.suppress(Exception):
            embedded.cluster_at(data.parent, {}).stop(mode="immediate")
    shutil.rmtree(place, ignore_errors=True)
