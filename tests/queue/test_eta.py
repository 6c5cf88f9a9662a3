"""The ETA: positions, expected times and bands, why there are none, and how often the truth is in the band."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.errors import Conflict, NotFound
from app.queue import admin
from app.queue.enqueue import enqueue_async, enqueue_many_async
from app.queue.eta import EtaStore, Sample, job_eta, queue_eta
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job
from app.queue.store import Store
from scripts.eta_calibration import calibrate
from tests.support.admission import limit, manage
from tests.support.claims import WORKER, add, claim, rows, worker_connection
from tests.support.command_line import facts
from tests.support.conversations import serving
from tests.support.jobs import enqueue_all, unfinished
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.sampler import Sampler
from workers.supervisor import Supervisor


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection to a database with one worker of 4 slots, whose tries took 10 s, now and then 20 s."""
    async with await worker_connection(db_url) as connection:
        store = Store(connection)
        await store.declare_queues(["default"])
        await store.register_worker(
            worker=WORKER, name="w", mode="hybrid", queues=["default"], concurrency=4, version="0"
        )
        sample = Sample(0, 0.0, 0.0)
        for run in [8_000.0, 10_000.0, 12_000.0] * 10:
            sample = sample.plus(run)
        await EtaStore(connection).add_samples({("default", "test"): sample})
        yield connection


async def seconds(connection: BoundedAsyncConnection, eta: dict[str, Any], name: str) -> float:
    """A time of the answer, from now."""
    now: datetime = (await rows(connection, "SELECT tandem.clock()"))[0][0]
    return float((eta[name] - now).total_seconds())


async def test_a_job_behind_others_waits_for_the_slots(queue: BoundedAsyncConnection) -> None:
    ids = await add(queue, 44)
    await claim(queue, 4)
    first, last = await job_eta(queue, ids[4]), await job_eta(queue, ids[-1])
    assert (first["position"], last["position"], last["position_exact"]) == (1, 40, True)
    assert first["basis"] == last["basis"] == "rates"
    assert await seconds(queue, last, "start_at") == pytest.approx(40 * 10 / 4, abs=5)
    assert await seconds(queue, last, "finish_at") == pytest.approx(40 * 10 / 4 + 10, abs=5)
    for eta in (first, last):
        assert eta["start_low"] <= eta["start_at"] <= eta["start_high"]
        assert eta["finish_low"] <= eta["finish_at"] <= eta["finish_high"]
    assert last["start_high"] - last["start_low"] > first["start_high"] - first["start_low"]


async def test_a_free_slot_means_now(queue: BoundedAsyncConnection) -> None:
    [job] = await add(queue)
    eta = await job_eta(queue, job)
    assert await seconds(queue, eta, "start_at") == pytest.approx(0, abs=2)
    assert await seconds(queue, eta, "finish_at") == pytest.approx(10, abs=2)


async def test_higher_priorities_come_first(queue: BoundedAsyncConnection) -> None:
    [low] = await add(queue, priority=1)
    await add(queue, 30, priority=8)
    assert (await job_eta(queue, low))["position"] == 31


async def test_a_running_job_ends_after_its_kinds_time_and_a_delayed_one_starts_not_before_it_is_due(
    queue: BoundedAsyncConnection,
) -> None:
    [running] = await add(queue)
    [claimed] = await claim(queue)
    eta = await job_eta(queue, running)
    assert (eta["basis"], eta["start_at"]) == ("running", claimed.claimed_at)
    assert await seconds(queue, eta, "finish_at") == pytest.approx(10, abs=2)
    due = claimed.claimed_at + timedelta(hours=1)
    later = (await enqueue_async(queue, NewJob("test", run_at=due))).job_id
    assert (await job_eta(queue, later))["start_at"] == due


async def test_why_nothing_can_be_said(queue: BoundedAsyncConnection) -> None:
    [paused] = await add(queue)
    await admin.pause_queue(queue, "default")
    waits = (await enqueue_async(queue, NewJob("test", after=[paused]))).job_id
    nobody = (await enqueue_async(queue, NewJob("test", queue="nobody"))).job_id
    for job, basis in ((paused, "queue-paused"), (waits, "waits-for-jobs"), (nobody, "no-worker")):
        eta = await job_eta(queue, job)
        assert (eta["basis"], eta["start_at"], eta["finish_high"]) == (basis, None, None)
    await admin.resume_queue(queue, "default")
    await queue.execute("SET tandem.clock_offset = '30 seconds'")
    await queue.execute("DELETE FROM tandem.service_sample")
    assert (await job_eta(queue, paused))["basis"] == "no-samples"
    with pytest.raises(NotFound):
        await job_eta(queue, 4711)
    await admin.cancel_job(queue, Registry(), paused)
    with pytest.raises(Conflict):
        await job_eta(queue, paused)


async def test_a_queue_is_drained_after_its_backlog(queue: BoundedAsyncConnection) -> None:
    await add(queue, 80)
    eta = await queue_eta(queue, "default")
    assert (eta["basis"], eta["waiting"], eta["waiting_exact"], eta["servers"]) == ("rates", 80, True, 4.0)
    assert await seconds(queue, eta, "drained_at") == pytest.approx(200, abs=10)
    assert eta["drained_low"] < eta["drained_at"] < eta["drained_high"]


async def test_in_a_managed_queue_the_place_is_that_within_the_key_and_limits_count(
    queue: BoundedAsyncConnection,
) -> None:
    await manage(queue)
    ids = await add(queue, 6, partition_key="a", priority=5)
    [low] = await add(queue, partition_key="a", priority=1)
    await add(queue, 30, partition_key="b")
    assert [(await job_eta(queue, job))["position"] for job in (ids[0], ids[5], low)] == [1, 6, 7]
    assert await servers(queue, "a") == 2, "two keys share four slots"
    await limit(queue, "key:default/a", max_running=1)
    assert (await servers(queue, "a"), await servers(queue, "b")) == (1, 2)
    assert await seconds(queue, await job_eta(queue, ids[5]), "start_at") == pytest.approx(5 * 10, abs=6)
    await limit(queue, "queue:default", max_running=1)
    assert await servers(queue, "b") == 0.5
    await manage(queue, ordered=True)
    await limit(queue, "queue:default", max_running=4)
    assert await servers(queue, "b") == 1, "one job of an ordered key at a time"


async def servers(connection: BoundedAsyncConnection, key: str) -> float:
    """How many jobs of the key the ETA takes to run at once."""
    query = """SELECT tandem.eta_servers('default', %s, 'test', g.servers)
               FROM tandem.global_turns('default', false, tandem.queue_servers('default', NULL)) AS g"""
    return float((await rows(connection, query, key))[0][0])


async def test_the_end_is_less_certain_than_the_start_and_more_than_both_together(
    queue: BoundedAsyncConnection,
) -> None:
    query = """SELECT b.high - b.low, f.high - f.low, r.high - r.low, f.expected - b.expected
               FROM tandem.eta_band(20, 4, 10, 5, 100) AS b CROSS JOIN tandem.run_band(10, 5) AS r
               CROSS JOIN LATERAL tandem.finish_band(b.expected, b.low, b.high, 10, 5) AS f"""
    [(start, finish, run, later)] = await rows(queue, query)
    assert max(start, run) < finish < start + run
    assert later == pytest.approx(10)
    now = await rows(queue, "SELECT f.expected, f.low > 0 FROM tandem.finish_band(0, 0, 0, 10, 5) AS f")
    assert now == [(pytest.approx(10), True)]


async def test_a_deep_queue_is_estimated(queue: BoundedAsyncConnection) -> None:
    for _ in range(12):
        await enqueue_many_async(queue, [NewJob("test")] * 1_000)
    [job] = await add(queue)
    eta = await job_eta(queue, job)
    assert not eta["position_exact"]
    assert 11_000 <= eta["position"] <= 13_000


async def test_by_http_and_command(
    queue: BoundedAsyncConnection, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job, *_] = await add(queue, 9)
    async with serving(db_url) as api:
        told: httpx.Response = await api.get(f"/v1/jobs/{job}/eta")
        assert (told.status_code, told.json()["position"], told.json()["basis"]) == (200, 1, "rates")
        assert (await api.get("/v1/jobs/4711/eta")).status_code == 404
        assert (await api.get("/v1/queues/default/eta")).json()["waiting"] == 9
    monkeypatch.setenv("DATABASE_URL", db_url)
    assert (await asyncio.to_thread(facts, "jobs", "eta", str(job)))["position"] == 1
    assert (await asyncio.to_thread(facts, "queues", "eta", "default"))["waiting"] == 9


async def test_workers_add_up_what_they_ran(db_url: str) -> None:
    registry = Registry()

    @registry.handler("test")
    async def test(job: Job[dict[str, Any]]) -> None:
        return None

    supervisor: Supervisor
    async with supervised(db_url, registry) as supervisor:
        assert isinstance(supervisor.sampler, Sampler)
        enqueue_all(db_url, [NewJob("test")] * 20)
        await eventually_async(lambda: unfinished(db_url) == 0)
    with psycopg.connect(db_url) as connection:
        query = "SELECT queue, kind, sum(tries), sum(ran_ms) > 0 FROM tandem.service_sample GROUP BY 1, 2"
        assert connection.execute(query).fetchall() == [("default", "test", 20, True)]


def test_the_band_holds_eight_of_ten(tx: Any) -> None:
    figures = calibrate(tx, 3_000, seed=1)
    for name, found in figures.items():
        assert 0.70 <= found["in_band"] <= 0.90, (name, found)
        assert 0.70 <= found["finish_in_band"] <= 0.90, (name, found)
    for figure in ("in_band", "finish_in_band"):
        assert 0.75 <= sum(one[figure] for one in figures.values()) / len(figures) <= 0.85
