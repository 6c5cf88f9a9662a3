"""The rig's own test: the same zombie with the product as it is, and with a bug planted that the checker must name.

`scripts/chaos --plant no-fence` is the long form, with faults drawn from a seed.
"""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.queue.job import NewJob
from scripts.chaos_rig import handlers, ledger, observer
from scripts.chaos_rig.history import Findings, check
from scripts.chaos_rig.journal import Call
from scripts.chaos_rig.planted import BUGS, plant_functions, planted
from scripts.chaos_rig.processes import Managed
from scripts.chaos_rig.proxy import FaultProxy
from tests.support.jobs import enqueue_all
from tests.support.waiting import eventually

SETTINGS = {
    "TANDEM_WORKER__LEASE_SECONDS": "1.2",
    "TANDEM_SWEEPER__EVERY_SECONDS": "0.2",
    "TANDEM_WORKER__DRAIN_SECONDS": "1",
}
WORK = 1.5


@contextmanager
def running(url: str, bug: str | None, logs: Path) -> Iterator[tuple[Managed, Managed]]:
    """Two workers; only the second one sweeps, and it is not started yet."""
    program = ["scripts.chaos_rig.planted", bug] if bug else ["app.cli"]
    options = ["worker", "--handlers", f"{handlers.__name__}:register", "--queues", "default"]
    with ExitStack() as stack:
        workers = []
        for name, more in (("first", ["--no-sweep"]), ("second", [])):
            proxy = stack.enter_context(FaultProxy(url))
            worker = Managed(name, [*program, *options, *more], proxy, SETTINGS, logs)
            stack.callback(worker.end_now)
            workers.append(worker)
        yield workers[0], workers[1]


def ask(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def zombies(url: str, bug: str | None, logs: Path) -> Findings:
    """Stop a worker past its lease while its threads work, and let it go on while another one is at the same jobs."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ledger.MAKE)
        observer.make(connection)
        if bug:
            plant_functions(connection, bug)
    jobs = enqueue_all(url, [NewJob("chaos.thread", {"op": f"thread-{n}", "work": WORK}) for n in range(3)])
    with running(url, bug, logs) as (first, second):
        first.start()
        eventually(lambda: len(ask(url, "SELECT FROM tandem.lease")) == len(jobs), timeout=60)
        first.signal(signal.SIGSTOP)
        second.start()
        eventually(lambda: len(ask(url, "SELECT FROM tandem.lease WHERE suspect")) > 0, timeout=60)
        first.signal(signal.SIGCONT)
        eventually(lambda: len(ask(url, "SELECT FROM tandem.done")) == len(jobs), timeout=60)
        first.stop()
        second.stop()
    with psycopg.connect(url, autocommit=True) as connection:
        facts = ledger.read_facts(connection, {})
    calls = [Call(n, f"thread-{n}", "thread", outcome="ok", answer=str(job)) for n, job in enumerate(jobs)]
    return check(calls, facts)


@pytest.mark.chaos
def test_the_product_passes(db_url: str, tmp_path: Path) -> None:
    assert zombies(db_url, None, tmp_path).violations == {}


@pytest.mark.chaos
def test_a_fence_and_a_finish_without_their_token_are_found(db_url: str, tmp_path: Path) -> None:
    assert zombies(db_url, "no-fence", tmp_path).double_effects


@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_still_finds_the_place_to_be_planted_in(bug: str) -> None:
    for file, (right, _) in BUGS[bug].items():
        assert right not in planted(bug, file)
