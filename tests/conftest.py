"""One server and one template database per run, shared by the xdist workers, and the fixtures built on them.

The server is the embedded PostgreSQL 18; --pg-bin DIR takes other programs for it, --pg URL a server that
runs already (TANDEM_TEST_DATABASE_URL says the same), whose role may create databases.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from app.database.cluster import Cluster
from app.database.connect import connect, connect_sync
from app.database.deadline import BoundedAsyncConnection, BoundedConnection
from tests.support import databases, servers

# The servers of the tests need not survive a power failure; tests/database/test_durability.py says the opposite.
os.environ.setdefault("TANDEM_DATABASE__ALLOW_DATA_LOSS", "true")
# How long a draw takes says how busy the machine is, nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
SERVER = pytest.StashKey[str]()
TEMPLATE = pytest.StashKey[str]()
CLEAN_UP = pytest.StashKey[ExitStack]()

MakeServer = Callable[[Mapping[str, str]], AbstractContextManager[tuple[Cluster, str]]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which PostgreSQL the tests run on."""
    parser.addoption("--pg", metavar="URL", help="run on this server instead of an embedded one")
    parser.addoption(
        "--load-seconds", default="3", metavar="N", help="how long tests/failover keeps up its load"
    )
    parser.addoption("--pg-bin", metavar="DIR", help="programs (initdb, postgres) for the server of the run")


def _foreign(config: pytest.Config) -> bool:
    return bool(_server_address(config) or config.getoption("--pg-bin"))


def _server_address(config: pytest.Config) -> str | None:
    return config.getoption("--pg") or os.environ.get("TANDEM_TEST_DATABASE_URL") or None


def _serve(config: pytest.Config) -> None:
    """Start server and template once, in the process that leads the run, when the first test needs them."""
    if SERVER in config.stash:
        return
    stack = config.stash.setdefault(CLEAN_UP, ExitStack())
    url = _server_address(config)
    if url is None:
        place = stack.enter_context(servers.open_directory())
        binaries = config.getoption("--pg-bin")
        running = servers.server(place, servers.CARELESS, binaries=Path(binaries) if binaries else None)
        _, url = stack.enter_context(running)
    config.stash[SERVER] = url
    config.stash[TEMPLATE] = databases.make_template(url)
    stack.callback(databases.drop, url, config.stash[TEMPLATE])


def pytest_configure(config: pytest.Config) -> None:
    """A worker of xdist is told by its leader where the server is."""
    told = getattr(config, "workerinput", None)
    if told is not None:
        config.stash[SERVER] = told["tandem_server"]
        config.stash[TEMPLATE] = told["tandem_template"]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called in the leader for each worker of xdist before it starts."""
    _serve(node.config)
    node.workerinput["tandem_server"] = node.config.stash[SERVER]
    node.workerinput["tandem_template"] = node.config.stash[TEMPLATE]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what this run started."""
    if CLEAN_UP in config.stash:
        config.stash[CLEAN_UP].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of the embedded server say nothing about another PostgreSQL, and it cannot speak TLS."""
    unfit = {"embedded"} if _foreign(config) else set()
    if not config.getoption("--pg-bin"):
        unfit.add("tls")
    left_out = [item for item in items if unfit & {marker.name for marker in item.iter_markers()}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def server_url(pytestconfig: pytest.Config) -> str:
    """The address of the run's server; its role may create databases."""
    _serve(pytestconfig)
    return pytestconfig.stash[SERVER]


@pytest.fixture(scope="session")
def template(pytestconfig: pytest.Config, server_url: str) -> str:
    """The name of the migrated template database."""
    return pytestconfig.stash[TEMPLATE]


@pytest.fixture
def db_url(server_url: str, template: str) -> Iterator[str]:
    """A fresh migrated database of this test's own: for commits, LISTEN, several connections, processes."""
    with databases.clone(server_url, template) as url:
        yield url


@pytest.fixture
def empty_db_url(server_url: str) -> Iterator[str]:
    """A fresh database without any migration."""
    with databases.clone(server_url, "template0") as url:
        yield url


@pytest.fixture(scope="session")
def shared_db_url(server_url: str, template: str) -> Iterator[str]:
    """A migrated database shared by the tests of this process, which leave nothing in it (see `tx`)."""
    with databases.clone(server_url, template) as url:
        yield url


@pytest.fixture
def tx(shared_db_url: str) -> Iterator[BoundedConnection]:
    """A synchronous connection in a transaction that is rolled back: the default for tests of SQL."""
    with connect_sync(shared_db_url, name="test", autocommit=False) as connection:
        try:
            yield connection
        finally:
            connection.rollback()


@pytest.fixture
async def async_tx(shared_db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """The same for coroutines."""
    async with await connect(shared_db_url, name="test", autocommit=False) as connection:
        try:
            yield connection
        finally:
            await connection.rollback()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the server's own account can enter (tmp_path is not, as root)."""
    with servers.open_directory() as place:
        yield place


@pytest.fixture
def make_server(open_directory: Path, pytestconfig: pytest.Config) -> MakeServer:
    """Servers of the test's own, to be crashed or configured: `with make_server({}) as (cluster, url)`."""
    binaries = pytestconfig.getoption("--pg-bin")

    def make(settings: Mapping[str, str]) -> AbstractContextManager[tuple[Cluster, str]]:
        return servers.server(open_directory, settings, binaries=Path(binaries) if binaries else None)

    return make
