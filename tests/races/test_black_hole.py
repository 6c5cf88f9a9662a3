"""The network swallows everything for a while and connections look alive: the worker gives them up and comes back."""

from typing import Any

from app.config import DatabaseSettings
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from tests.support.jobs import enqueue_all, outcomes
from tests.support.membership import check_membership
from tests.support.proxy import Proxy
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async

IMPATIENT = DatabaseSettings(call_timeout_seconds=0.5, connect_timeout_seconds=2, backoff_most_seconds=0.5)


async def test_a_worker_comes_back_from_a_black_hole_and_ends_what_it_held(db_url: str) -> None:
    runs: list[int] = []
    registry = Registry()

    async def run(job: Job[Any]) -> None:
        runs.append(job.id)
        if len(runs) == 1:
            proxy.swallow()

    registry.handler("run")(run)
    with Proxy(db_url) as proxy:
        async with supervised(
            proxy.url, registry, database=IMPATIENT, lease_seconds=60.0, sweep=True, slots=2
        ) as worker:
            first = enqueue_all(db_url, [NewJob("run")])
            await eventually_async(lambda: len(runs) == 1)
            await eventually_async(lambda: worker.heartbeat.alive and not worker.finishing.is_open)
            later = enqueue_all(db_url, [NewJob("run") for _ in range(10)])
            proxy.heal()
            await eventually_async(lambda: set(outcomes(db_url, first + later)) == {"SUCCEEDED"}, timeout=30)
    assert sorted(runs) == first + later, "each ran once: the lease outlived the hole"
    check_membership(db_url)
