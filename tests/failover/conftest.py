"""Two real servers for each test here. `--load-seconds N` makes the loads before and after a failover longer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.chaos_rig.pair import Pair
from tests.support.pair import server_pair


@pytest.fixture
def pair(pytestconfig: pytest.Config) -> Iterator[Pair]:
    """A primary and a standby that follows it."""
    programs = pytestconfig.getoption("--pg-bin")
    with server_pair(Path(programs) if programs else None) as servers:
        yield servers


@pytest.fixture
def load_seconds(pytestconfig: pytest.Config) -> float:
    """How long clients go on before, and again after, the primary dies."""
    return float(pytestconfig.getoption("--load-seconds"))
