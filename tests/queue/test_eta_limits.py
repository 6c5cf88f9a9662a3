"""The ETA under limits of managed queues: the global one, those of kinds, exempt keys, and a limit of nothing."""

from typing import Any

import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.eta import EtaStore, Sample, job_eta, queue_eta
from tests.queue.test_eta import queue, seconds
from tests.support.admission import admit, limit, manage
from tests.support.claims import add

Connection = BoundedAsyncConnection
__all__ = ["queue"]


async def wait(connection: Connection, job: int) -> float:
    """Seconds until the job is expected to start."""
    eta: dict[str, Any] = await job_eta(connection, job)
    assert eta["basis"] == "rates"
    assert eta["start_low"] <= eta["start_at"] <= eta["start_high"]
    return await seconds(connection, eta, "start_at")


async def test_the_global_limit_slows_a_queue_down_and_exempt_keys_pass_it(queue: Connection) -> None:
    await manage(queue)
    await limit(queue, "key:default/vip", exempt=True)
    await add(queue, 2, partition_key="a")
    await admit(queue, 2)
    jobs = await add(queue, 8, partition_key="a")
    vip = await add(queue, 8, partition_key="vip")
    free, exempt = await wait(queue, jobs[-1]), await wait(queue, vip[-1])
    await limit(queue, "global", max_running=1)
    held = await wait(queue, jobs[-1])
    assert held == pytest.approx(8 * 10, abs=8)
    assert held > 2 * free
    assert await wait(queue, vip[-1]) == pytest.approx(exempt, abs=2)


async def test_under_the_global_limit_the_work_of_other_queues_comes_first_unless_the_queue_holds_slots(
    queue: Connection,
) -> None:
    await manage(queue)
    await manage(queue, "mail")
    await limit(queue, "global", max_running=2)
    sample = Sample(0, 0.0, 0.0)
    for run in [8_000.0, 10_000.0, 12_000.0] * 10:
        sample = sample.plus(run)
    await EtaStore(queue).add_samples({("mail", "test"): sample})
    await add(queue, 12, queue="mail")
    await admit(queue, 2, queue="mail")
    [job] = await add(queue)
    assert await wait(queue, job) == pytest.approx(10 * 10 / 2 + 5, abs=8), "the others' ten come first"


async def test_a_limit_of_a_kind_holds_up_its_own_jobs_and_gives_the_slots_to_others(
    queue: Connection,
) -> None:
    await manage(queue)
    narrow = await add(queue, 12, kind="narrow")
    wide = await add(queue, 12)
    together = await wait(queue, wide[-1])
    await limit(queue, "kind:narrow", max_running=1)
    assert await wait(queue, narrow[-1]) == pytest.approx(11 * 10, abs=12), "one after the other"
    passed = await wait(queue, wide[-1])
    assert passed == pytest.approx(9 * 10 / 3, abs=8), "three slots for twelve"
    assert passed < together
    drained = await queue_eta(queue, "default")
    assert await seconds(queue, drained, "drained_at") == pytest.approx(12 * 10, abs=12)
    await manage(queue, ordered=True)
    await add(queue, partition_key="x")
    [second] = await add(queue, partition_key="x")
    await limit(queue, "kind:test", max_running=0)
    assert (await job_eta(queue, second))["basis"] == "limit-is-zero", (
        "a limit of its kind holds in order, too"
    )


async def test_a_limit_of_nothing_is_said(queue: Connection) -> None:
    await manage(queue)
    [job] = await add(queue, partition_key="a")
    for target in ("global", "kind:test", "queue:default", "key:default/a"):
        await limit(queue, target, max_running=0)
        eta = await job_eta(queue, job)
        assert (eta["basis"], eta["start_at"]) == ("limit-is-zero", None), target
        if not target.startswith("key:"):
            assert (await queue_eta(queue, "default"))["basis"] == "limit-is-zero", target
        await queue.execute("SELECT tandem.clear_limit(%s)", (target,))
    assert (await job_eta(queue, job))["basis"] == "rates"
