"""One database for the run, and for each test a connection whose transaction is rolled back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from workers.testing import fresh_database

SCHEMA = Path(__file__).parent / "schema.sql"


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """A database with the queue's tables and ours, on the server of DATABASE_URL or the embedded one."""
    with fresh_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute(SCHEMA.read_bytes())
        yield url


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    """What a test does here, nobody else ever sees."""
    with psycopg.connect(database) as connection:
        yield connection
        connection.rollback()
