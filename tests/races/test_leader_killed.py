"""Three worker processes: one sweeps; when it is killed another takes over, and its jobs come back."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.jobs import enqueue_all, outcomes
from tests.support.ledger import effects, go, held, make_ledger, step
from tests.support.membership import check_membership
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos
OPTIONS: dict[str, Any] = {"lease_seconds": 1.5, "slots": 2, "sweeper": {"leader_lease_seconds": 1.5}}
LEADER = "SELECT holder FROM tandem.leader WHERE expires_at > clock_timestamp()"


def leader(url: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(LEADER).fetchone()
    return row[0] if row else None


def process_of(url: str, worker: Any) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT split_part(name, ':', 2) FROM tandem.worker WHERE id = %s", (worker,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_another_worker_takes_the_sweep_over_and_rescues_the_dead_leaders_jobs(
    db_url: str, tmp_path: Path
) -> None:
    make_ledger(db_url)
    with (
        worker_process(db_url, tmp_path, **OPTIONS) as one,
        worker_process(db_url, tmp_path, **OPTIONS) as two,
        worker_process(db_url, tmp_path, **OPTIONS) as three,
    ):
        jobs = enqueue_all(db_url, [step("exactly", tmp_path, "before") for _ in range(6)])
        eventually(lambda: held(tmp_path) == 6, timeout=60)
        first = eventually(lambda: leader(db_url), timeout=60)
        victim = next(worker for worker in (one, two, three) if worker.pid == process_of(db_url, first))
        victim.killed()
        eventually(lambda: leader(db_url) not in (None, first), timeout=60)
        go(tmp_path)
        eventually(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=60)
        assert sum(worker.process.poll() is None for worker in (one, two, three)) == 2
    assert [len(effects(db_url, job)) for job in jobs] == [1] * 6
    check_membership(db_url)
