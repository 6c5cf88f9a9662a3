"""A primary and its standby for a test, in a directory that goes with them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from scripts.chaos_rig.pair import Pair
from tests.support import servers


@contextlib.contextmanager
def server_pair(binaries: Path | None) -> Iterator[Pair]:
    """A migrated primary with a standby that follows it, for the length of a block."""
    with servers.open_directory() as place:
        pair: Pair | None = None
        try:
            pair = Pair(place, binaries, servers.CARELESS)
            yield pair
        finally:
            if pair is not None:
                pair.stop()
