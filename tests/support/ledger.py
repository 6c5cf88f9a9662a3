"""The table of effects that handlers in worker processes write to, and a directory where they tell how far they are."""

from collections.abc import Iterator
from pathlib import Path

import psycopg

from app.queue.job import NewJob
from tests.support.membership import check_membership
from tests.support.process_handlers import LEDGER


def make_ledger(url: str) -> None:
    """Make the tables of tests.support.process_handlers."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(LEDGER)


def effects(url: str, job: int) -> list[int]:
    """The tokens of the tries that left an effect, in no order; the same try never leaves two."""
    with psycopg.connect(url, autocommit=True) as connection:
        return [
            row[0] for row in connection.execute("SELECT token FROM effect WHERE job = %s", (job,)).fetchall()
        ]


def processes(url: str) -> set[int]:
    """The processes that left effects."""
    with psycopg.connect(url, autocommit=True) as connection:
        return {row[0] for row in connection.execute("SELECT pid FROM effect").fetchall()}


def step(kind: str, place: Path, hold_at: str = "", *, seconds: float = 0.0) -> NewJob:
    """A job that holds where it is told to, the first time it comes there."""
    return NewJob(kind, {"place": str(place), "hold_at": hold_at, "seconds": seconds})


def held(place: Path) -> int:
    """How many jobs hold now."""
    return len(list(place.glob("held-*")))


def go(place: Path) -> None:
    """Let everything go on that holds."""
    (place / "go").touch()


def ledger_place(db_url: str, tmp_path: Path) -> Iterator[Path]:
    """A fixture: where handlers tell how far they are, with the database's table of effects."""
    make_ledger(db_url)
    yield tmp_path
    go(tmp_path)
    check_membership(db_url)
