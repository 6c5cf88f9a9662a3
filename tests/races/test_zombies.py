"""Workers that stop for longer than their lease and go on: what they still do is fenced off. And one that is busy."""

import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.jobs import enqueue_all, outcome, status, tries
from tests.support.ledger import effects, go, held, ledger_place, step
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos
SHORT: dict[str, Any] = {
    "lease_seconds": 1.5,
    "slots": 4,
    "database": {"idle_in_transaction_timeout_ms": 1000},
}


place = pytest.fixture(ledger_place)


def worker_of(url: str, job: int) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "SELECT worker, token FROM tandem.done WHERE job_id = %s", (job,)
        ).fetchone()


@pytest.mark.parametrize(
    ("kind", "point"), [("exactly", "before"), ("exactly", "inside"), ("at-least", "after")]
)
def test_what_a_stopped_worker_does_after_its_lease_is_fenced(
    db_url: str, place: Path, kind: str, point: str
) -> None:
    [job] = enqueue_all(db_url, [step(kind, place, point)])
    with worker_process(db_url, place, sweep=False, **SHORT) as zombie:
        eventually(lambda: held(place) == 1, timeout=60)
        first = status(db_url, job).worker
        zombie.signal(signal.SIGSTOP)
        with worker_process(db_url, place, **SHORT):
            eventually(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=60)
        done = worker_of(db_url, job)
        go(place)
        zombie.signal(signal.SIGCONT)
        eventually(lambda: f"job {job}: its lease was lost" in zombie.log, timeout=60)
        zombie.signal(signal.SIGTERM)
        assert zombie.ended() == 0
    assert worker_of(db_url, job) == done, "the zombie did not finish it a second time"
    assert done[0] != first
    assert effects(db_url, job).count(done[1]) == 1
    assert len(effects(db_url, job)) == (2 if kind == "at-least" else 1)
    assert [one.verdict for one in tries(db_url, job)] == ["RESCUED"]


def test_a_handler_that_blocks_the_event_loop_longer_than_its_lease_keeps_it(
    db_url: str, place: Path
) -> None:
    # Expressions that explode hold the interpreter; between two of them the heartbeat's thread gets its turn.
    [job] = enqueue_all(db_url, [step("block", place, seconds=5.0)])
    with worker_process(db_url, place, **SHORT), worker_process(db_url, place, **SHORT):
        eventually(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=60)
    assert tries(db_url, job) == []
    assert status(db_url, job).attempt == 1
