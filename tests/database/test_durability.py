"""F26: a process that acknowledges work does not start on a server that may lose it, and says the way out."""

import psycopg
import pytest
from psycopg import sql

from app.config import DatabaseSettings
from app.database import durability
from app.errors import ConfigurationError
from tests.conftest import MakeServer
from tests.support.command_line import run

STRICT = DatabaseSettings(allow_data_loss=False)
SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_each_setting_is_named(make_server: MakeServer, name: str) -> None:
    with make_server({**SAFE, name: "off"}) as (_, url):
        with pytest.raises(ConfigurationError, match=f"{name} is off.*ALLOW_DATA_LOSS=true"):
            durability.check(url, settings=STRICT)
        durability.check(url, settings=DatabaseSettings(allow_data_loss=True))


@pytest.mark.parametrize("command", ["worker", "api"])
def test_neither_worker_nor_api_starts(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with make_server({"fsync": "off"}) as (_, url):
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("TANDEM_DATABASE__ALLOW_DATA_LOSS", "false")
        code, told = run(command)
    assert code == 1
    assert "fsync is off" in told


def test_a_safe_server_passes_until_a_role_or_a_table_is_careless(make_server: MakeServer) -> None:
    with make_server(SAFE) as (_, url):
        durability.check(url, settings=STRICT)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA tandem; CREATE UNLOGGED TABLE tandem.wake_request (lane int)")
            durability.check(url, settings=STRICT)
            connection.execute("CREATE UNLOGGED TABLE tandem.job (id bigint)")
            with pytest.raises(ConfigurationError, match="tandem.job is UNLOGGED"):
                durability.check(url, settings=STRICT)
            connection.execute("ALTER TABLE tandem.job SET LOGGED")
            connection.execute(sql.SQL("ALTER ROLE tandem SET synchronous_commit = off"))
        with pytest.raises(ConfigurationError, match="synchronous_commit is off"):
            durability.check(url, settings=STRICT)
