"""The fault proxy: each fault strikes the chosen request, the server is left as promised, the rest passes untouched."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from app.database.connect import connect, connect_sync
from scripts.chaos_rig.proxy import FaultProxy
from scripts.chaos_rig.rules import commits, explicit_commit, nth, saying
from tests.support.waiting import eventually

LIMIT = 5.0
Opened = Callable[..., psycopg.Connection[Any]]
Direct = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def direct(db_url: str) -> Iterator[Direct]:
    """A connection around the proxy, with a table that counts."""
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE mark (what text)")
        yield connection


@pytest.fixture
def proxy(db_url: str, direct: object) -> Iterator[FaultProxy]:
    """In front of this test's own database."""
    with FaultProxy(db_url) as between:
        yield between


@pytest.fixture
def opened(proxy: FaultProxy) -> Iterator[Opened]:
    """Opens connections through the proxy, and closes them whatever became of them."""
    with ExitStack() as stack:

        def opener(limit: float = LIMIT, autocommit: bool = True) -> psycopg.Connection[Any]:
            connection = connect_sync(proxy.url, name="x", autocommit=autocommit, call_timeout=limit)
            stack.callback(connection.close)
            return connection

        yield opener


def marks(direct: Direct) -> list[object]:
    """What was committed."""
    return [row[0] for row in direct.execute("SELECT what FROM mark ORDER BY what")]


def mark(connection: psycopg.Connection[Any], what: str, *, prepare: bool = False) -> None:
    """One writing statement, by the simple or the extended protocol."""
    connection.execute("INSERT INTO mark VALUES (%s)", (what,), prepare=prepare)


def lost(connection: psycopg.Connection[Any]) -> bool:
    """Whether the connection is gone."""
    return bool(connection.closed or connection.broken)


def test_without_a_fault_everything_passes(opened: Opened, proxy: FaultProxy, direct: Direct) -> None:
    with opened(autocommit=False) as connection:
        for number in range(20):
            mark(connection, f"{number:02}", prepare=number % 2 == 0)
            connection.commit()
        with connection.pipeline():
            for number in range(20, 30):
                mark(connection, f"{number:02}")
        connection.commit()
        with connection.cursor().copy("COPY mark FROM STDIN") as copy:
            copy.write_row(("30",))
        connection.commit()
        [row] = connection.execute("SELECT repeat('x', 1000000)").fetchall()
    assert len(row[0]) == 1_000_000
    assert marks(direct) == [f"{number:02}" for number in range(31)]
    assert not proxy.counts


def test_a_tls_request_is_declined(proxy: FaultProxy) -> None:
    with psycopg.connect(proxy.url.replace("sslmode=disable", "sslmode=prefer")) as connection:
        assert not connection.pgconn.ssl_in_use


@pytest.mark.parametrize("prepare", [False, True])
def test_the_answer_of_commit_is_lost(
    opened: Opened, proxy: FaultProxy, direct: Direct, prepare: bool
) -> None:
    connection = opened(autocommit=False)
    rule = proxy.drop_reply(explicit_commit)
    mark(connection, "a", prepare=prepare)
    with pytest.raises(psycopg.OperationalError) as caught:
        connection.commit()
    assert caught.value.sqlstate is None
    assert rule.hit.is_set()
    assert marks(direct) == ["a"]
    assert proxy.counts == {"drop_commit_reply": 1}
    with opened(autocommit=False) as again:
        mark(again, "b")
        again.commit()
    assert marks(direct) == ["a", "b"]


def test_commit_never_arrives(opened: Opened, proxy: FaultProxy, direct: Direct) -> None:
    connection = opened(autocommit=False)
    proxy.cut_before(explicit_commit)
    mark(connection, "a")
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    assert lost(connection)
    eventually(
        lambda: (
            not direct.execute(
                "SELECT FROM pg_locks WHERE relation = 'mark'::regclass AND pid <> pg_backend_pid()"
            ).fetchall()
        )
    )
    assert marks(direct) == []
    assert proxy.counts == {"cut_before_commit": 1}


@pytest.mark.parametrize("prepare", [False, True])
def test_a_writing_statement_outside_a_transaction_is_a_commit(
    opened: Opened, proxy: FaultProxy, direct: Direct, prepare: bool
) -> None:
    connection = opened()
    mark(connection, "a", prepare=prepare)
    proxy.drop_reply(commits)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        mark(connection, "b", prepare=prepare)
    assert marks(direct) == ["a", "b"]


def test_the_nth_request_or_a_named_one(opened: Opened, proxy: FaultProxy, direct: Direct) -> None:
    connection = opened()  # opening one is a request by itself: it looks for a pooler
    proxy.cut_before(nth(4))
    connection.execute("SELECT 1")
    connection.execute("SELECT 2")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 3")
    connection = opened()
    proxy.drop_reply(saying("42"), skip=1)
    connection.execute("SELECT 42")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 42")
    assert proxy.counts == {"cut_before": 1, "drop_reply": 1}


def test_an_answer_ends_in_its_middle(opened: Opened, proxy: FaultProxy) -> None:
    connection = opened()
    proxy.cut_reply(100, saying("repeat"))
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT repeat('x', 100000)")


def test_a_request_can_be_held_before_the_server_sees_it(
    opened: Opened, proxy: FaultProxy, direct: Direct
) -> None:
    rule = proxy.hold_before(saying("INSERT"))
    with pytest.raises(psycopg.OperationalError, match="did not answer"):
        mark(opened(limit=0.3), "a")
    assert rule.hit.is_set()
    assert marks(direct) == []
    rule.release()
    eventually(lambda: marks(direct) == ["a"])


def test_a_request_can_be_held_after_the_server_did_it(
    opened: Opened, proxy: FaultProxy, direct: Direct
) -> None:
    rule = proxy.hold_reply(saying("INSERT"))
    with pytest.raises(psycopg.OperationalError, match="did not answer"):
        mark(opened(limit=0.3), "a")
    assert rule.hit.wait(5)
    assert marks(direct) == ["a"]


async def test_a_black_hole_swallows_even_what_comes_after_it(proxy: FaultProxy, direct: Direct) -> None:
    connection = await connect(proxy.url, name="x", call_timeout=0.3)
    proxy.blackhole()
    with pytest.raises(psycopg.OperationalError, match="did not answer"):
        await connection.execute("INSERT INTO mark VALUES ('a')")
    proxy.heal()
    assert marks(direct) == []
    async with await connect(proxy.url, name="x", call_timeout=LIMIT) as again:
        await again.execute("INSERT INTO mark VALUES ('b')")
    assert marks(direct) == ["b"]


def test_half_a_black_hole_loses_only_answers(opened: Opened, proxy: FaultProxy, direct: Direct) -> None:
    connection = opened(limit=0.3)
    proxy.blackhole("answers")
    with pytest.raises(psycopg.OperationalError, match="did not answer"):
        mark(connection, "a")
    eventually(lambda: marks(direct) == ["a"])


def test_a_reset_reaches_every_connection_and_new_ones_work(opened: Opened, proxy: FaultProxy) -> None:
    connections = [opened() for _ in range(3)]
    proxy.reset_all()
    for connection in connections:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with opened() as again:
        again.execute("SELECT 1")


def test_slow_weather_only_takes_time(opened: Opened, proxy: FaultProxy, direct: Direct) -> None:
    with opened(limit=30) as connection:
        proxy.delay(0.005)
        proxy.drip(16, 0.001)
        started = time.monotonic()
        mark(connection, "a")
        mark(connection, "b", prepare=True)
        assert time.monotonic() > started
        proxy.heal()
        mark(connection, "c")
    assert marks(direct) == ["a", "b", "c"]
    assert proxy.counts == {"delay": 1, "slow_drip": 1}
