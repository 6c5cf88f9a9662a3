"""A worker process killed at each point where it talks to the database, just before and just after the server acted.

The proxy holds the request or its answer while the process dies, so each crash is at the same point every time.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.queue.job import NewJob
from app.queue.kinds import Registry
from scripts.chaos_rig import handlers, ledger
from scripts.chaos_rig.processes import Managed
from scripts.chaos_rig.proxy import FaultProxy
from scripts.chaos_rig.rules import Match, Rule, explicit_commit, saying
from tests.support.conversations import make_settings, opened_sessions
from tests.support.jobs import enqueue_all, outcome, tries
from tests.support.membership import check_membership
from tests.support.supervised import supervised
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.chaos
SETTINGS = {"TANDEM_WORKER__LEASE_SECONDS": "1", "TANDEM_SWEEPER__EVERY_SECONDS": "0.2"}
CLAIM, FINISH = saying("INSERT INTO tandem.lease"), saying("'SUCCEEDED'")
FENCE, EFFECT = saying("FOR KEY SHARE"), saying("chaos.effect")
BEFORE, AFTER = "before the server acts", "after the server acted"
POINTS: dict[str, tuple[str, Match]] = {
    "claim": ("chaos.tx", CLAIM),
    "effect at least once": ("chaos.plain", EFFECT),
    "finish": ("chaos.plain", FINISH),
    "fence": ("chaos.tx", FENCE),
    "effect": ("chaos.tx", EFFECT),
    "completion": ("chaos.tx", FINISH),
    "commit": ("chaos.tx", explicit_commit),
    "commit of a thread": ("chaos.thread", explicit_commit),
    "commit of a failure": ("chaos.flaky", explicit_commit),
}


@pytest.fixture
def proxy(db_url: str) -> Iterator[FaultProxy]:
    """Between the worker that dies and the server, which has a ledger."""
    with psycopg.connect(db_url) as connection:
        connection.execute(ledger.MAKE)
    with FaultProxy(db_url) as between:
        yield between


def effects(url: str) -> list[Any]:
    """The ledger."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute("SELECT job_id, token FROM chaos.effect").fetchall()


def kill_at(proxy: FaultProxy, rule: Rule, logs: Path, *, enqueue: Callable[[], list[int]]) -> int:
    """Run a real worker on a job until the rule strikes, kill it, and let go of what was held."""
    [job] = enqueue()
    command = ["app.cli", "worker", "--no-sweep", "--handlers", "scripts.chaos_rig.handlers:register"]
    worker = Managed("worker", command, proxy, SETTINGS, logs)
    worker.start()
    try:
        eventually(rule.hit.is_set, timeout=30)
    finally:
        worker.end_now()
    rule.release()
    return job


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_killed_here_loses_nothing_and_repeats_nothing(
    db_url: str, proxy: FaultProxy, tmp_path: Path, point: str, moment: str
) -> None:
    kind, matches = POINTS[point]
    rule = proxy.hold_before(matches) if moment == BEFORE else proxy.hold_reply(matches)
    new = NewJob(kind, {"op": point, "work": 0.0})
    job = kill_at(proxy, rule, tmp_path, enqueue=lambda: enqueue_all(db_url, [new]))

    async with opened_sessions(db_url) as sessions:
        registry = Registry()
        handlers.register(registry, sessions=sessions, settings=make_settings())
        async with supervised(db_url, registry, sweep=True, lease_seconds=1.0):
            await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=30)
    check_membership(db_url)
    done = len(effects(db_url))
    assert done >= 1 if kind == "chaos.plain" else done == 1
    failed = [one.verdict for one in tries(db_url, job)]
    assert failed.count("RETRY") == (1 if kind == "chaos.flaky" else 0)
    assert set(failed) <= {"RETRY", "RESCUED"}
