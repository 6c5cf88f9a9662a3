"""A PgBouncer before each test's database; without one on this machine these tests are skipped, and say so."""

from collections.abc import Iterator

import pytest

from tests.support.pgbouncer import FOUND, leaked, pgbouncer


@pytest.fixture
def pooled_url(db_url: str) -> Iterator[str]:
    """The way to this test's database through PgBouncer in transaction mode; what it leaves there is looked for."""
    if FOUND is None:
        pytest.skip("no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
    with pgbouncer(db_url) as url:
        yield url
        assert leaked(url) == []
