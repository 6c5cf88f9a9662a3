"""A worker whose connection breaks while it starts goes on starting; its process does not end for it."""

import pytest

from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from scripts.chaos_rig.proxy import FaultProxy
from scripts.chaos_rig.rules import saying
from tests.support.jobs import enqueue_all, outcome
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


@pytest.mark.parametrize("table", ["tandem.queue", "tandem.kind", "tandem.worker"])
@pytest.mark.parametrize("fault", ["drop_reply", "cut_before"])
async def test_a_statement_of_the_start_is_repeated(db_url: str, table: str, fault: str) -> None:
    registry = Registry()

    async def nothing(_: Job[dict[str, object]]) -> None:
        pass

    registry.add(Kind("nothing", nothing))
    [job] = enqueue_all(db_url, [NewJob("nothing")])
    with FaultProxy(db_url) as proxy:
        rule = getattr(proxy, fault)(saying(f"INSERT INTO {table}"))
        async with supervised(proxy.url, registry) as supervisor:
            await eventually_async(supervisor.started.is_set, timeout=20)
            await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED", timeout=20)
    assert rule.hit.is_set()
