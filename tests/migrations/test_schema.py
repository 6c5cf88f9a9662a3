"""sql/schema.sql is what the migrations make. Refresh it with `python -m scripts.dump_schema`."""

import psycopg
import pytest

from app.database import embedded, migrate
from scripts.dump_schema import SCHEMA, dump, normalise


@pytest.mark.embedded
def test_the_snapshot_equals_the_migrations(db_url: str) -> None:
    assert dump(db_url, embedded.embedded_programs()) == SCHEMA.read_text()


@pytest.mark.embedded
def test_down_and_up_again_gives_the_same_schema(empty_db_url: str) -> None:
    migrate.upgrade(empty_db_url)
    migrate.downgrade(empty_db_url, "base")
    migrate.upgrade(empty_db_url)
    assert dump(empty_db_url, embedded.embedded_programs()) == SCHEMA.read_text()


@pytest.mark.embedded
def test_the_snapshot_can_be_loaded(empty_db_url: str) -> None:
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
        assert connection.execute("SELECT count(*) FROM tandem.job_status").fetchone() == (0,)


def test_what_differs_between_releases_is_left_out() -> None:
    first = "-- Dumped by pg_dump version 18.1\n\\restrict abc\nSET lock_timeout = 0;\n\n\nCREATE TABLE t (n int);\n"
    second = "-- Dumped by pg_dump version 18.6\n\\restrict xyz\n\n\n\n\nCREATE TABLE t (n int);  \n\\unrestrict xyz\n"
    assert normalise(first) == normalise(second)
    assert "CREATE TABLE t (n int);" in normalise(first)
