"""psql as an operator runs it, and the database that the queries are asked about."""

import asyncio
import csv
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.config import CHECKOUT
from app.database.embedded import embedded_programs
from tests.support import databases
from tests.support.states import States, fill

INSPECT = CHECKOUT / "sql" / "inspect"
Rows = list[dict[str, str]]
Inspect = Callable[..., Rows]


@pytest.fixture(scope="package")
def states(server_url: str, template: str) -> Iterator[States]:
    """Jobs in every state; the queries only read."""
    with databases.clone(server_url, template) as url:
        yield asyncio.run(fill(url))


@pytest.fixture(scope="session")
def psql(pytestconfig: pytest.Config) -> Path:
    """The psql of the run's programs."""
    given = pytestconfig.getoption("--pg-bin")
    return Path(given or embedded_programs()) / "psql"


@pytest.fixture
def inspect(psql: Path) -> Inspect:
    """`inspect(url, name)`: the rows of sql/inspect/<name>.sql, read-only, as psql prints them in CSV."""

    def run(url: str, name: str, *, clock_offset: str = "0") -> Rows:
        options = f"-c default_transaction_read_only=on -c tandem.clock_offset={clock_offset}".replace(
            "\\", ""
        )
        answer = subprocess.run(
            [psql, "-X", "--csv", "-v", "ON_ERROR_STOP=1", "-f", INSPECT / f"{name}.sql", url],
            capture_output=True,
            text=True,
            env={**os.environ, "PGOPTIONS": options, "PGTZ": "UTC"},
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stderr == ""
        return list(csv.DictReader(answer.stdout.splitlines()))

    return run
