"""Migrating: up, down, several processes at once, locks that are taken, schemas that do not fit."""

import os
import subprocess
import sys
import threading

import psycopg
import pytest

from app.config import CHECKOUT, DatabaseSettings
from app.database import migrate, version
from app.errors import ConfigurationError, Unavailable

HASTY = DatabaseSettings(lock_timeout_ms=50, backoff_first_seconds=0.01, backoff_most_seconds=0.05)
LEFT_OVER = """
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('tandem', 'public') AND c.relname NOT LIKE 'alembic_version%'
UNION ALL
SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname IN ('tandem', 'public')
UNION ALL
SELECT t.typname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE n.nspname IN ('tandem', 'public') AND t.typname NOT LIKE '%alembic_version%'
"""


def set_version(url: str, value: str) -> None:
    """Pretend that another release migrated this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE tandem.alembic_version SET version_num = %s", (value,))


def test_an_empty_database_is_migrated_once(empty_db_url: str) -> None:
    head = version.known()[-1]
    assert migrate.current(empty_db_url) is None
    assert migrate.upgrade(empty_db_url) == head
    assert migrate.upgrade(empty_db_url) == head
    assert migrate.check(empty_db_url) == migrate.current(empty_db_url) == head


def test_going_back_to_nothing_leaves_nothing_and_the_way_up_again_works(empty_db_url: str) -> None:
    migrate.upgrade(empty_db_url)
    assert migrate.downgrade(empty_db_url, "base") is None
    with psycopg.connect(empty_db_url) as connection:
        assert connection.execute(LEFT_OVER).fetchall() == []
    assert migrate.upgrade(empty_db_url) == version.known()[-1]


def test_every_step_down_and_up_works(empty_db_url: str) -> None:
    for one in version.known():
        assert migrate.upgrade(empty_db_url, one) == one
        migrate.downgrade(empty_db_url, "-1")
        assert migrate.upgrade(empty_db_url, one) == one


def test_processes_that_start_together_migrate_once(empty_db_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "app.cli", "db", "upgrade", "--json"],
            cwd=CHECKOUT,
            env={**os.environ, "DATABASE_URL": empty_db_url},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(f'"after": "{version.known()[-1]}"' in answer for answer in answers)
    assert migrate.check(empty_db_url) == version.known()[-1]


def test_a_newer_schema_is_refused_and_not_touched(db_url: str) -> None:
    set_version(db_url, "9999")
    for action in (migrate.check, migrate.upgrade, lambda url: migrate.downgrade(url, "base")):
        with pytest.raises(ConfigurationError, match="newer than this code") as caught:
            action(db_url)
        assert caught.value.code == "schema-newer"
    assert migrate.current(db_url) == "9999"
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT to_regclass('tandem.job') IS NOT NULL").fetchone() == (True,)


def test_a_missing_schema_says_what_to_do(empty_db_url: str) -> None:
    with pytest.raises(ConfigurationError, match="tandem db upgrade") as caught:
        migrate.check(empty_db_url)
    assert caught.value.code == "schema-missing"


def test_an_older_schema_says_what_to_do(empty_db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.upgrade(empty_db_url)
    known = [*version.known(), "9998"]
    monkeypatch.setattr(version, "known", lambda: known)
    with pytest.raises(ConfigurationError, match="this code needs 9998") as caught:
        version.check(empty_db_url)
    assert caught.value.code == "schema-older"


def test_a_lock_that_is_never_free_changes_nothing_and_says_so(empty_db_url: str) -> None:
    with psycopg.connect(empty_db_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (migrate.LOCK,))
        with pytest.raises(Unavailable, match="no lock") as caught:
            migrate.upgrade(empty_db_url, settings=HASTY, patience_seconds=0.3)
    assert caught.value.code == "schema-locked"
    assert migrate.current(empty_db_url) is None


def test_a_lock_that_becomes_free_is_waited_for(db_url: str) -> None:
    """Traffic holds a table that the way down drops; it is never made to wait behind us, we retry."""
    blocked, release = threading.Event(), threading.Event()

    def traffic() -> None:
        with psycopg.connect(db_url) as connection:
            connection.execute("SELECT count(*) FROM tandem.job")
            blocked.set()
            release.wait(60)

    thread = threading.Thread(target=traffic)
    thread.start()
    assert blocked.wait(60)
    try:
        with pytest.raises(Unavailable):
            migrate.downgrade(db_url, "base", settings=HASTY, patience_seconds=0.3)
        assert migrate.current(db_url) == version.known()[-1]
    finally:
        release.set()
        thread.join(60)
    assert migrate.downgrade(db_url, "base", settings=HASTY) is None


def test_the_schema_may_have_been_made_by_the_administrator(empty_db_url: str) -> None:
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA tandem")
    assert migrate.upgrade(empty_db_url) == version.known()[-1]
