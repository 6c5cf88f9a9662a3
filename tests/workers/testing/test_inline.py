"""inline: one job at once, with the real Job object, alone or as a true job of the test's transaction."""

from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from app.client.errors import TandemError
from app.database.deadline import BoundedAsyncConnection
from app.queue.job import NewJob, Unique
from app.queue.retry import HandlerError
from tests.workers.testing.kinds import TABLE, make_registry
from workers.testing import inline, inline_async

REGISTRY = make_registry()


def test_a_handler_alone() -> None:
    ran = inline(REGISTRY, "plain", {"number": 41})
    assert (ran.status, ran.result, ran.attempt) == ("SUCCEEDED", {"number": 42}, 1)
    assert inline(REGISTRY, NewJob("batch", {"n": 4})).result == 4


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(HandlerError, match="no luck at try 1"):
        inline(REGISTRY, "fails")
    with pytest.raises(ValidationError):
        inline(REGISTRY, "plain", {"number": "no"})
    with pytest.raises(ValueError, match="odd"):
        inline(REGISTRY, "batch", {"n": 1})
    ran = inline(REGISTRY, "fails", raise_error=False)
    assert (ran.status, ran.message) == ("PENDING", "HandlerError: no luck at try 1")
    assert inline(REGISTRY, "fails", raise_error=False, policy={"max_attempts": 1}).status == "DEAD"


@pytest.mark.parametrize(
    ("how", "status"),
    [("snooze", "PENDING"), ("retry", "PENDING"), ("cancel", "CANCELLED"), ("dead", "DEAD")],
)
def test_decisions_say_what_they_lead_to(tx: Any, how: str, status: str) -> None:
    assert inline(REGISTRY, "decides", {"how": how}).status == status
    assert inline(REGISTRY, "decides", {"how": how}, connection=tx).status == status


def test_a_payload_is_checked_as_if_it_were_enqueued() -> None:
    with pytest.raises(TandemError, match="not JSON"):
        inline(REGISTRY, "plain", {"number": object()})


def test_a_kind_without_handler_is_named() -> None:
    with pytest.raises(LookupError, match=r"'nobody' in this registry; it has: batch, decides"):
        inline(REGISTRY, "nobody")


def test_without_a_database_there_is_no_transaction() -> None:
    for kind in ("effect", "thread", "process"):
        with pytest.raises(TandemError, match=r"inline\(\.\.\., connection="):
            inline(REGISTRY, kind, {"number": 1})


def test_in_the_tests_transaction_everything_is_real(tx: Any) -> None:
    tx.execute(TABLE)
    ran = inline(REGISTRY, "effect", {"number": 1, "note": "x"}, connection=tx, queue="mail")
    assert (ran.status, ran.result, ran.queue) == ("SUCCEEDED", {"noted": "x"}, "mail")
    assert tx.execute("SELECT job_id, note FROM effect").fetchall() == [(ran.job_id, "x")]
    for kind in ("thread", "process"):
        assert inline(REGISTRY, kind, connection=tx).status == "SUCCEEDED"
    assert tx.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    # Only the job that was asked for has run: the one that it enqueued waits.
    assert tx.execute("SELECT count(*) FROM tandem.ready").fetchone() == (1,)


def test_a_failure_in_the_tests_transaction_is_written_and_raised(tx: Any) -> None:
    tx.execute(TABLE)
    with pytest.raises(psycopg.errors.DivisionByZero):
        inline(REGISTRY, "spoils", connection=tx)
    with pytest.raises(HandlerError):
        inline(REGISTRY, "fails", connection=tx)
    assert tx.execute("SELECT note FROM effect").fetchall() == [("RETRY temporary",)]
    assert tx.execute("SELECT count(*) FROM tandem.attempt").fetchone() == (2,)


def test_a_job_whose_key_is_taken_does_not_run(tx: Any) -> None:
    inline(REGISTRY, "plain", {"number": 1}, connection=tx, unique=Unique("k"))
    with pytest.raises(AssertionError, match="not ready"):
        inline(REGISTRY, "plain", {"number": 1}, connection=tx, unique=Unique("k"))


async def test_in_async_tests(async_tx: BoundedAsyncConnection) -> None:
    await async_tx.execute(TABLE)
    assert (await inline_async(REGISTRY, "plain", {"number": 1})).result == {"number": 2}
    for kind in ("effect", "thread"):
        ran = await inline_async(REGISTRY, kind, {"number": 1}, connection=async_tx)
        assert ran.status == "SUCCEEDED"
    cursor = await async_tx.execute("SELECT count(*) FROM effect")
    assert await cursor.fetchone() == (2,)
    with pytest.raises(RuntimeError, match="await inline_async"):
        inline(REGISTRY, "plain", {"number": 1})
