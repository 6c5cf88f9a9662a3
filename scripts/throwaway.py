"""A migrated PostgreSQL for one run of a script, removed after it. It need not survive a power failure."""

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.database import embedded, migrate

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "400",
}


@contextlib.contextmanager
def throwaway_server(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Its address, for the length of a block."""
    # Below the system's directory for such things: as root the server's account must be able to enter.
    place = Path(tempfile.mkdtemp(prefix="tandem-throwaway-"))
    place.chmod(0o755)
    # Told to end, a script would leave its server behind.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster = embedded.cluster_at(place / "pg", {**SETTINGS, **(settings or {})})
    try:
        url = cluster.url(cluster.start())
        migrate.upgrade(url)
        yield url
    finally:
        cluster.stop(mode="immediate")
        shutil.rmtree(place, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
