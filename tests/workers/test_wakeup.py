"""How a whole worker finds its jobs: by notification, by looking again, and after whatever befell its connections."""

import asyncio
from typing import Any

import psycopg
import pytest

from app.queue import wake
from app.queue.claim import PART
from app.queue.enqueue import enqueue, enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job
from app.queue.store import Store
from tests.support.claims import claim, worker_connection
from tests.support.jobs import enqueue_all, outcome, outcomes
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.bell import Bell
from workers.producer import Producer
from workers.supervisor import Supervisor

LISTENING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tandem listen' AND datname = current_database()"


async def succeed(_: Job[Any]) -> None:
    return None


def kinds(**handlers: Any) -> Registry:
    registry = Registry()
    for name, handler in {"succeed": succeed, **handlers}.items():
        registry.handler(name)(handler)
    return registry


@pytest.fixture
def no_rechecks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In mode `listen` a sleeper is then woken by notifications alone, for hours."""
    monkeypatch.setattr(wake, "RECHECKS", (0.001,))
    monkeypatch.setattr("workers.producer.LISTEN_RECHECK", 3600.0)


async def asleep(worker: Supervisor) -> None:
    """Wait until the worker sleeps and will not look again by itself."""
    looks = worker.producer.claiming

    async def lies() -> bool:
        sleeper = worker.producer.sleeper
        return sleeper is not None and sleeper._asleep and looks.is_open

    await eventually_async(lies)


def listeners(url: str) -> list[int]:
    with psycopg.connect(url, autocommit=True) as connection:
        return [row[0] for row in connection.execute(LISTENING).fetchall()]


@pytest.mark.usefixtures("no_rechecks")
async def test_a_sleeping_worker_starts_a_job_when_it_is_told(db_url: str) -> None:
    async with supervised(db_url, kinds(), mode="listen") as worker:
        for _ in range(5):
            await asleep(worker)
            [job] = enqueue_all(db_url, [NewJob("succeed")])
            await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED")  # noqa: B023 - awaited here


@pytest.mark.usefixtures("no_rechecks")
async def test_plain_sql_wakes_a_worker_too(db_url: str) -> None:
    async with supervised(db_url, kinds(), mode="listen") as worker:
        await asleep(worker)
        with psycopg.connect(db_url, autocommit=True) as connection:
            row = connection.execute("SELECT tandem.enqueue('succeed')").fetchone()
        assert row is not None
        await eventually_async(lambda: outcome(db_url, row[0]) == "SUCCEEDED")


async def test_a_lost_notification_is_made_up_for_by_looking_again(db_url: str) -> None:
    async with supervised(db_url, kinds()) as worker:
        await asleep(worker)
        with psycopg.connect(db_url, autocommit=True) as connection:
            job = enqueue(connection, NewJob("succeed"), wake=False).job_id
        await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED")


@pytest.mark.usefixtures("no_rechecks")
async def test_a_killed_listen_connection_is_opened_again_and_listens(db_url: str) -> None:
    async with supervised(db_url, kinds(), mode="listen") as worker:
        await asleep(worker)
        [before] = listeners(db_url)
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (before,))
        # While nobody listens the worker looks by itself; afterwards it is told again.
        first = enqueue_all(db_url, [NewJob("succeed")])
        await eventually_async(lambda: outcomes(db_url, first) == ["SUCCEEDED"])
        await eventually_async(lambda: listeners(db_url) not in ([], [before]))
        await asleep(worker)
        second = enqueue_all(db_url, [NewJob("succeed")])
        await eventually_async(lambda: outcomes(db_url, second) == ["SUCCEEDED"])


async def test_f21_sessions_that_the_server_ends_when_idle_are_opened_again(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET idle_session_timeout = '300ms'".encode())
    async with supervised(db_url, kinds(), mode="hybrid"):
        for _ in range(3):
            [before] = await eventually_async(lambda: listeners(db_url))
            await eventually_async(lambda: listeners(db_url) not in ([], [before]))  # noqa: B023 - awaited here
            jobs = enqueue_all(db_url, [NewJob("succeed")])
            await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])  # noqa: B023 - awaited here


@pytest.mark.usefixtures("no_rechecks")
async def test_every_connection_killed_at_once_is_survived(db_url: str) -> None:
    async with supervised(db_url, kinds(), mode="listen", sweep=True) as worker:
        await asleep(worker)
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        jobs = enqueue_all(db_url, [NewJob("succeed") for _ in range(20)])
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=20)
        await asleep(worker)
        jobs = enqueue_all(db_url, [NewJob("succeed")])
        await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])


@pytest.mark.usefixtures("no_rechecks")
async def test_an_unexpected_error_in_the_producer_does_not_leave_it_deaf(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failures = Store.claim_jobs, 2

    async def failing(self: Store, *args: Any, **options: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("something nobody thought of")
        return await claim(self, *args, **options)

    monkeypatch.setattr(Store, "claim_jobs", failing)
    async with supervised(db_url, kinds(), mode="listen") as worker:
        await eventually_async(lambda: worker.producer.failures == 2)
        await asleep(worker)
        jobs = enqueue_all(db_url, [NewJob("succeed")])
        await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])
        assert len(listeners(db_url)) == 1


async def test_without_a_listen_connection_the_worker_looks_less_and_less_often(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    original = Producer._wait

    async def noted(self: Producer, seconds: float, *events: Bell) -> None:
        if self.sleeper is not None and self.sleeper.heard in events and self.inbox.low not in events:
            waits.append(seconds)
            await asyncio.sleep(0)
            return
        await original(self, seconds, *events)

    monkeypatch.setattr(Producer, "_wait", noted)

    async def refuse(*_: Any) -> bool:
        return False

    monkeypatch.setattr("workers.producer.Sleeper.lie_down", refuse)
    async with supervised(db_url, kinds()):
        await eventually_async(lambda: len(waits) > 10)
    assert waits[:6] == [0.02, 0.1, 0.5, 1.0, 1.0, 1.0]


async def test_mode_poll_needs_no_listen_connection(db_url: str) -> None:
    async with supervised(db_url, kinds(), mode="poll", poll_seconds=0.05):
        assert listeners(db_url) == []
        jobs = enqueue_all(db_url, [NewJob("succeed") for _ in range(30)])
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"})


async def test_a_busy_worker_leaves_waiting_jobs_to_one_that_is_free(db_url: str) -> None:
    end = asyncio.Event()

    async def wait(_: Job[Any]) -> None:
        await end.wait()

    async with supervised(db_url, kinds(wait=wait), slots=1) as busy:
        [long] = enqueue_all(db_url, [NewJob("wait")])
        await eventually_async(lambda: busy.slots.busy == 1)
        [short] = enqueue_all(db_url, [NewJob("succeed")])
        async with supervised(db_url, kinds(wait=wait), slots=1):
            await eventually_async(lambda: outcome(db_url, short) == "SUCCEEDED")
            assert outcome(db_url, long) == "RUNNING"
        end.set()
        await eventually_async(lambda: outcome(db_url, long) == "SUCCEEDED")


async def test_a_late_commit_is_found_by_a_worker_that_is_never_idle(db_url: str) -> None:
    turns = asyncio.Semaphore(0)

    async def take_turns(_: Job[Any]) -> None:
        await turns.acquire()

    async with supervised(db_url, kinds(turn=take_turns), slots=2) as worker:
        with psycopg.connect(db_url) as late:
            missing = enqueue(late, NewJob("turn")).job_id
            backlog = enqueue_all(db_url, [NewJob("turn") for _ in range(400)])
            turns.release()
            await eventually_async(lambda: "SUCCEEDED" in outcomes(db_url, backlog))
        assert worker.producer.floors.behind(), "the late row lies behind the fast floor"

        def found() -> bool:
            turns.release()
            return outcome(db_url, missing) == "SUCCEEDED"

        await eventually_async(found, timeout=30)
        assert "PENDING" in outcomes(db_url, backlog), "it did not have to wait for the end of the backlog"
        for _ in backlog:
            turns.release()


@pytest.mark.usefixtures("no_rechecks")
async def test_a_retry_without_delay_wakes_sleepers(db_url: str) -> None:
    async def fail_once(job: Job[Any]) -> None:
        if job.attempt == 1:
            raise ValueError("once")

    registry = kinds()
    registry.handler("fail-once", retry=Retrying(own=RetryPolicy(max_attempts=3, delays=(0.0,))))(fail_once)
    async with supervised(db_url, registry, mode="listen"):
        jobs = enqueue_all(db_url, [NewJob("fail-once")])
        await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])


@pytest.mark.usefixtures("no_rechecks")
async def test_what_goes_back_at_a_drain_wakes_the_workers_that_stay(db_url: str) -> None:
    async with supervised(db_url, kinds(), mode="listen") as staying:
        await asleep(staying)
        async with await worker_connection(db_url) as connection:
            for _ in range(2):
                await enqueue_async(connection, NewJob("succeed"), wake=False)
            jobs = await claim(connection, 2)
        async with supervised(db_url, kinds(), mode="poll", poll_seconds=3600) as leaving:
            await leaving.executor.hand_back(jobs)
            await eventually_async(lambda: outcomes(db_url, [job.id for job in jobs]) == ["SUCCEEDED"] * 2)


async def test_a_worker_of_many_queues_serves_them_all_asleep_or_busy(db_url: str) -> None:
    queues = {f"q{number}": 1 for number in range(2 * PART + 1)}
    async with supervised(db_url, kinds(), mode="listen", queues=queues) as worker:
        await asleep(worker)
        jobs = enqueue_all(db_url, [NewJob("succeed", queue=queue) for queue in queues])
        await eventually_async(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=20)
        await asleep(worker)
        jobs = enqueue_all(db_url, [NewJob("succeed", queue="q7")])
        await eventually_async(lambda: outcomes(db_url, jobs) == ["SUCCEEDED"])
