"""Addresses over a network must check their server, or say aloud that they do not."""

import pytest

from app.config import DatabaseSettings, Settings
from app.database.location import database
from app.database.transport import check
from app.errors import ConfigurationError

STRICT = DatabaseSettings()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@db.example/app?sslmode=verify-full",
        "host=db.example sslmode=verify-full sslrootcert=/ca.pem",
        "postgresql://me@127.0.0.1/app",
        "postgresql://me@[::1]/app",
        "postgresql://me@localhost/app?sslmode=disable",
        "postgresql://me@/app?host=/run/postgresql",
        "dbname=app",
        "postgresql+psycopg://me@127.0.0.1/app",
    ],
)
def test_local_and_checked_addresses_are_fine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    check(url, STRICT)


@pytest.mark.parametrize("mode", ["", "disable", "allow", "prefer", "require", "verify-ca"])
@pytest.mark.parametrize("host", ["db.example", "10.0.0.5", "127.0.0.1,db.example", "127.0.0.1.example"])
def test_whatever_is_weaker_over_a_network_is_refused(mode: str, host: str) -> None:
    url = f"host={host} password=hunter2" + (f" sslmode={mode}" if mode else "")
    with pytest.raises(ConfigurationError, match="sslmode=verify-full") as caught:
        check(url, STRICT)
    assert "hunter2" not in str(caught.value) + str(caught.value.detail)
    check(url, DatabaseSettings(tls="any"))


def test_what_the_environment_says_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    check("postgresql://me@db.example/app", STRICT)
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(ConfigurationError):
        check("dbname=app", STRICT)


def test_no_process_starts_on_such_an_address() -> None:
    good = "postgresql://me@127.0.0.1/app"
    weak = "postgresql://me@db.example/app"
    for settings in (Settings(database_url=weak), Settings(database_url=good, database_listen_url=weak)):
        with pytest.raises(ConfigurationError, match="db.example"), database(settings):
            raise AssertionError("it started")
    with database(Settings(database_url=weak, database=DatabaseSettings(tls="any"))) as place:
        assert place.url == weak
