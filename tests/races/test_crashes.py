"""SIGKILL at every point of a job's way, in real processes: exactly once where promised, at least once elsewhere."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.queue.job import NewJob
from tests.support.jobs import enqueue_all, outcome, outcomes, status, tries
from tests.support.ledger import effects, held, ledger_place, step
from tests.support.waiting import eventually
from tests.support.worker_process import gone, worker_process

pytestmark = pytest.mark.chaos
LEASE = {"lease_seconds": 1.5}


place = pytest.fixture(ledger_place)


POINTS: list[tuple[str, str, int]] = [
    ("exactly", "before", 1),
    ("exactly", "inside", 1),
    ("exactly", "after", 1),
    ("exactly-thread", "before", 1),
    ("exactly-thread", "inside", 1),
    ("exactly-thread", "after", 1),
    ("exactly-process", "before", 1),
    ("exactly-process", "inside", 1),
    ("exactly-process", "after", 1),
    ("at-least", "before", 1),
    ("at-least", "after", 2),
]


def test_a_kill_at_any_point_of_a_handler_loses_nothing_and_repeats_no_transaction(
    db_url: str, place: Path
) -> None:
    jobs = enqueue_all(db_url, [step(kind, place, point) for kind, point, _ in POINTS])
    with worker_process(db_url, place, slots=len(jobs), **LEASE) as first:
        eventually(lambda: held(place) == len(jobs), timeout=60)
        first.killed()
    with worker_process(db_url, place, slots=4, **LEASE):
        eventually(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=60)
    found = {
        (kind, point): len(effects(db_url, job)) for (kind, point, _), job in zip(POINTS, jobs, strict=True)
    }
    assert found == {(kind, point): expected for kind, point, expected in POINTS}
    assert [status(db_url, job).attempt for job in jobs] == [1] * len(jobs), "a rescue refunds the attempt"


@pytest.mark.parametrize("point", ["claim", "finish"])
def test_a_kill_right_after_a_commit_of_the_workers_own_is_survived(
    db_url: str, place: Path, point: str
) -> None:
    """The worker's own statements, seen through a trigger that waits: the commit is on its way as the process dies."""
    table = {"claim": "lease", "finish": "done"}[point]
    with psycopg.connect(db_url, autocommit=True) as gate:
        gate.execute(
            psycopg.sql.SQL(
                "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;"
                " CREATE TRIGGER gate AFTER INSERT ON tandem.{} FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate()"
            ).format(psycopg.sql.Identifier(table))
        )
        gate.execute("SELECT pg_advisory_lock(7)")
        quiet = (
            "ALTER DATABASE {} SET client_connection_check_interval = 0"  # a busy machine opens the gate late
        )
        gate.execute(psycopg.sql.SQL(quiet).format(psycopg.sql.Identifier(gate.info.dbname)))
        [job] = enqueue_all(db_url, [step("at-least", place)])
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        with worker_process(db_url, place, **LEASE) as first:
            eventually(lambda: gate.execute(waiting).fetchone() == (1,), timeout=60)
            first.killed()
        # The server does not notice: the statement commits once it may.
        gate.execute("SELECT pg_advisory_unlock(7)")
        gate.execute(psycopg.sql.SQL("DROP TRIGGER gate ON tandem.{}").format(psycopg.sql.Identifier(table)))
        with worker_process(db_url, place, **LEASE):
            eventually(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=60)
        assert len(effects(db_url, job)) == 1
        rescued = [one.verdict for one in tries(db_url, job)]
        assert rescued == (["RESCUED"] if point == "claim" else [])


def test_a_poison_pill_dies_after_three_lone_crashes_and_its_mates_lose_no_attempt(
    db_url: str, place: Path
) -> None:
    mates = enqueue_all(db_url, [step("exactly", place, "before") for _ in range(5)])
    with worker_process(db_url, place, slots=10, **LEASE) as first:
        eventually(lambda: held(place) == len(mates), timeout=60)
        [poison] = enqueue_all(db_url, [NewJob("poison")])
        assert first.ended() != 0
    crashes = 1
    while outcome(db_url, poison) != "DEAD":
        with worker_process(db_url, place, slots=10, **LEASE) as worker:
            eventually(
                lambda: worker.process.poll() is not None or outcome(db_url, poison) == "DEAD", timeout=60
            )
            crashes += worker.process.poll() is not None
    with worker_process(db_url, place, slots=10, **LEASE):
        eventually(lambda: set(outcomes(db_url, mates)) == {"SUCCEEDED"}, timeout=60)
    assert crashes == 4, "once in company, three times alone"
    assert (status(db_url, poison).error_class, outcome(db_url, poison)) == ("crash", "DEAD")
    assert [(one.verdict, one.error_class) for one in tries(db_url, poison)] == [("RESCUED", "crash")] * 3 + [
        ("DEAD", "crash")
    ]
    assert [status(db_url, job).attempt for job in mates] == [1] * len(mates)
    assert [len(effects(db_url, job)) for job in mates] == [1] * len(mates)


def test_the_children_of_a_killed_worker_end_too(db_url: str, place: Path) -> None:
    [job] = enqueue_all(db_url, [step("exactly-process", place, "inside")])
    with worker_process(db_url, place, **LEASE) as worker:
        eventually(lambda: list(place.glob(f"held-{job}")), timeout=60)
        [child] = [int(file.name.rsplit("-", 1)[1]) for file in place.glob(f"inside-{job}-*")]
        worker.killed()
        eventually(lambda: gone(child))
    with worker_process(db_url, place, **LEASE):
        eventually(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=60)
    assert len(effects(db_url, job)) == 1


def test_a_whole_fleet_killed_at_once_comes_back_and_ends_everything(db_url: str, place: Path) -> None:
    jobs = enqueue_all(db_url, [step("exactly", place, "inside" if n < 8 else "") for n in range(60)])
    options: dict[str, Any] = {"slots": 4, **LEASE}
    with worker_process(db_url, place, **options) as one, worker_process(db_url, place, **options) as two:
        eventually(lambda: held(place) == 8, timeout=60)
        one.process.kill()
        two.killed()
        one.killed()
    with worker_process(db_url, place, **options), worker_process(db_url, place, **options):
        eventually(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=60)
    assert [len(effects(db_url, job)) for job in jobs] == [1] * 60
