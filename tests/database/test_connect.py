"""Opening connections: what they are called, how they guard themselves, what an error says."""

import asyncio
import socket
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.config import DatabaseSettings
from app.database.connect import check_server_version, connect, connect_sync, connection_string
from app.errors import ConfigurationError, Unavailable
from tests.support.databases import address

HASTY = DatabaseSettings(connect_timeout_seconds=2)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_connection_is_named_and_has_its_session_settings(db_url: str) -> None:
    session = {"synchronous_commit": "off", "lock_timeout": "1234ms"}
    async with await connect(db_url, name="finisher", session=session) as connection:
        row = await (
            await connection.execute(
                "SELECT current_setting('application_name'), current_setting('synchronous_commit'), "
                "current_setting('lock_timeout')"
            )
        ).fetchone()
        assert row == ("tandem finisher", "off", "1234ms")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_session_settings_survive_a_rollback_of_the_first_transaction(db_url: str) -> None:
    with connect_sync(db_url, name="x", autocommit=False, session={"lock_timeout": "77ms"}) as connection:
        connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SHOW lock_timeout").fetchone() == ("77ms",)


def test_prepared_statements_can_be_turned_off_for_poolers(db_url: str) -> None:
    with connect_sync(db_url, name="x", settings=DatabaseSettings(prepared_statements=False)) as connection:
        for _ in range(10):
            connection.execute("SELECT %s::int", (1,), prepare=True)
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_dead_peer_is_noticed_by_the_kernel() -> None:
    info = conninfo_to_dict(connection_string("postgresql://db/app", name="w", settings=DatabaseSettings()))
    assert int(str(info["keepalives"])) == 1
    assert int(str(info["tcp_user_timeout"])) <= 5000
    probes = int(str(info["keepalives_idle"])) + int(str(info["keepalives_interval"])) * int(
        str(info["keepalives_count"])
    )
    assert probes <= 5


def test_what_the_address_says_wins_and_tls_options_pass() -> None:
    url = "postgresql+psycopg://me@db/app?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=9&keepalives_idle=60"
    info = conninfo_to_dict(connection_string(url, name="w", settings=DatabaseSettings()))
    assert (info["sslmode"], info["sslrootcert"]) == ("verify-full", "/ca.pem")
    assert (int(str(info["connect_timeout"])), int(str(info["keepalives_idle"]))) == (9, 60)
    assert info["host"] == "db"


@pytest.mark.embedded
async def test_tls_that_the_server_does_not_have_is_not_given_up_silently(
    server_url: str, silent_port: int
) -> None:
    parts = conninfo_to_dict(server_url)
    url = f"postgresql://tandem@127.0.0.1:{parts['port']}/tandem?sslmode=require"
    with pytest.raises(Unavailable, match="SSL"):
        await connect(url, name="x", settings=HASTY)


def test_a_senseless_address_is_refused_without_telling_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect_sync("postgresql//me:hunter2@db/app", name="x")
    assert caught.value.code == "invalid-database-url"
    assert "hunter2" not in str(caught.value)


async def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"postgresql://me:hunter2@127.0.0.1:{port}/app"
    with pytest.raises(Unavailable) as caught:
        await connect(url, name="x", settings=HASTY)
    assert caught.value.code == "database-unavailable"
    assert "hunter2" not in str(caught.value)
    with pytest.raises(Unavailable):
        connect_sync(url, name="x", settings=HASTY)


async def test_a_server_that_accepts_and_never_answers_is_unavailable(silent_port: int) -> None:
    url = f"postgresql://me@127.0.0.1:{silent_port}/app"
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await connect(url, name="x", settings=HASTY)
    with pytest.raises(Unavailable):
        connect_sync(url, name="x", settings=HASTY)


async def test_an_unknown_database_is_unavailable(server_url: str) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        await connect(address(server_url, "nowhere"), name="x")


def test_old_servers_are_refused() -> None:
    check_server_version(150000)
    with pytest.raises(ConfigurationError, match="PostgreSQL 14") as caught:
        check_server_version(140011)
    assert caught.value.code == "postgresql-too-old"


async def test_a_connection_that_cannot_be_set_up_is_not_left_open(db_url: str) -> None:
    with pytest.raises(psycopg.Error):
        await connect(db_url, name="leaky", session={"no_such_setting": "1"})
    with connect_sync(db_url, name="observer") as observer:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tandem leaky'"
        assert observer.execute(query).fetchone() == (0,)
