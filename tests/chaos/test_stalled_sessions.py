"""F3 and F14 in the worker's own transactions: who is cut off in the middle of one must not keep its jobs for ever.

Rescue steps over locked rows, so only the server can end such a session; its process may be stopped or far away.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app.config import DatabaseSettings
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.retry import HandlerError, Retrying, RetryPolicy
from app.queue.running import Job
from scripts.chaos_rig.proxy import FaultProxy
from scripts.chaos_rig.rules import Rule, explicit_commit
from tests.support.claims import claim, worker_connection
from tests.support.jobs import enqueue_all, outcome
from tests.support.membership import check_membership
from tests.support.supervised import quick_settings
from tests.support.waiting import eventually_async
from workers.supervisor import Supervisor

PATIENCE = DatabaseSettings(idle_in_transaction_timeout_ms=500, call_timeout_seconds=2)


@pytest.fixture
def proxy(db_url: str) -> Iterator[FaultProxy]:
    """Between the worker that will be cut off and the server."""
    with FaultProxy(db_url) as between:
        yield between


def registered() -> Registry:
    """One kind that fails its first try."""
    registry = Registry()

    async def flaky(job: Job[dict[str, object]]) -> None:
        if job.attempt == 1:
            raise HandlerError("the first try fails")

    again = Retrying(own=RetryPolicy(5, delays=(0.05,)))
    registry.add(Kind("flaky", flaky, retry=again, crash_limit=100))
    return registry


@asynccontextmanager
async def working(url: str, *, sweep: bool) -> AsyncIterator[Supervisor]:
    """A worker that gives up idle transactions after half a second."""
    settings = quick_settings(lease_seconds=1.0, drain_seconds=0.2)
    settings = settings.model_copy(update={"database": PATIENCE})
    supervisor = Supervisor(settings, url, registered(), sweep=sweep)
    async with running(supervisor):
        yield supervisor


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[None]:
    """Started, and ended whatever became of its connections."""
    task = asyncio.create_task(supervisor.run())
    await eventually_async(supervisor.started.is_set, timeout=30)
    try:
        yield
    finally:
        supervisor.ask_to_stop()
        supervisor.ask_to_stop()
        async with asyncio.timeout(90):
            await task


async def cut_off(proxy: FaultProxy, rule: Rule) -> None:
    """Once the COMMIT is on its way, nothing gets through any more, and the server hears of nothing."""
    await eventually_async(rule.hit.is_set, timeout=20)
    proxy.blackhole()


async def test_a_worker_cut_off_while_it_writes_a_failure_does_not_keep_the_job(
    db_url: str, proxy: FaultProxy
) -> None:
    rule = proxy.hold_before(explicit_commit)
    async with working(proxy.url, sweep=False):
        [job] = enqueue_all(db_url, [NewJob("flaky")])
        await cut_off(proxy, rule)
        async with working(db_url, sweep=True):
            await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=20)
            check_membership(db_url)
        proxy.heal()


async def test_a_sweeper_cut_off_in_a_rescue_does_not_keep_its_page(db_url: str, proxy: FaultProxy) -> None:
    [job] = enqueue_all(db_url, [NewJob("flaky")])
    async with await worker_connection(db_url) as connection:
        assert await claim(connection, lease=timedelta(seconds=0.1))
    rule = proxy.hold_before(explicit_commit)
    async with working(proxy.url, sweep=True):
        await cut_off(proxy, rule)
        async with working(db_url, sweep=True):
            await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=20)
            check_membership(db_url)
        proxy.heal()
