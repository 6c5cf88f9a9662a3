"""job.progress: written at most once a second, the last value at the end, never by who lost the lease."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.errors import InvalidInput
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.progress import Progress, ProgressStore
from app.queue.retry import HandlerError
from app.queue.running import Job
from tests.support.claims import add, claim, rows, worker_connection
from tests.support.command_line import facts
from tests.support.conversations import serving
from tests.support.jobs import enqueue_all, outcome
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async
from workers.testing import drain, inline

WRITES = """
CREATE TABLE writes (job_id bigint, percent real, stage text);
CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO writes VALUES (NEW.job_id, NEW.percent, NEW.stage); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON tandem.progress FOR EACH ROW EXECUTE FUNCTION note_write()
"""


@pytest.fixture
def url(db_url: str) -> Iterator[str]:
    """A database that notes each write of a progress."""
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(WRITES)
    yield db_url


def written(url: str, job_id: int) -> list[tuple[float, str]]:
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT percent, stage FROM writes WHERE job_id = %s ORDER BY ctid"
        return connection.execute(query, (job_id,)).fetchall()


def in_process(job: Job[dict[str, Any]]) -> None:
    for number in range(300):
        job.progress(number / 3, "processing")
    job.progress(100, "processed")


def make_registry() -> Registry:
    registry = Registry()

    @registry.handler("coroutine")
    async def coroutine(job: Job[dict[str, Any]]) -> None:
        for number in range(300):
            job.progress(number / 3, "running")
            await asyncio.sleep(0)
        job.progress(100, "ran")

    @registry.handler("thread", executor="thread")
    def thread(job: Job[dict[str, Any]]) -> None:
        for number in range(300):
            job.progress(number / 3, "running")
        job.progress(100, "ran")

    registry.handler("process", executor="process")(in_process)

    @registry.handler("fails")
    async def fails(job: Job[dict[str, Any]]) -> None:
        job.progress(40, "halfway")
        raise HandlerError("no", error_class="permanent")

    @registry.handler("silent")
    async def silent(job: Job[dict[str, Any]]) -> None:
        return None

    return registry


async def test_each_executor_writes_seldom_and_the_last_value_at_the_end(url: str) -> None:
    kinds = {"coroutine": "ran", "thread": "ran", "process": "processed"}
    jobs = enqueue_all(url, [NewJob(kind) for kind in (*kinds, "fails", "silent")])
    async with supervised(url, make_registry()):
        await eventually_async(
            lambda: {outcome(url, job) for job in jobs} == {"SUCCEEDED", "DEAD"}, timeout=60
        )
    for job, last in zip(jobs, kinds.values(), strict=False):
        values = written(url, job)
        assert values[-1] == (100.0, last)
        assert 1 <= len(values) <= 10, "300 reports"
    assert written(url, jobs[3]) == [(40.0, "halfway")]
    assert written(url, jobs[4]) == []


async def test_a_running_job_is_seen_by_sql_api_events_and_command(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go, registry = threading.Event(), Registry()

    @registry.handler("wait", executor="thread")
    def wait(job: Job[dict[str, Any]]) -> None:
        job.progress(42, "translating")
        assert go.wait(60)
        job.progress(99.5, "nearly")

    [job] = enqueue_all(url, [NewJob("wait")])
    async with supervised(url, registry), serving(url) as api:
        await eventually_async(lambda: written(url, job) == [(42.0, "translating")])
        detail = (await api.get(f"/v1/jobs/{job}")).json()
        assert (detail["status"], detail["progress_percent"], detail["progress_stage"]) == (
            "RUNNING",
            42.0,
            "translating",
        )
        following = asyncio.create_task(api.get(f"/v1/jobs/{job}/events"))
        await asyncio.sleep(0)
        go.set()
        stream = await following
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith('data: {"')]
        assert events[-1]["status"] == "SUCCEEDED"
        assert events[-1]["progress_percent"] == 99.5
        assert stream.text.endswith("event: end\ndata: {}\n\n")
        assert (await api.get("/v1/jobs/4711/events")).status_code == 404
    monkeypatch.setenv("DATABASE_URL", url)
    shown = await asyncio.to_thread(facts, "jobs", "show", str(job))
    assert (shown["progress_percent"], shown["progress_stage"]) == (99.5, "nearly")


async def test_who_lost_the_lease_writes_nothing(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await add(connection, 2)
        mine, other = await claim(connection)
        store = ProgressStore(connection)
        news = Progress(50.0, "half")
        assert await store.write_progress([(other.id, other.token, news), (mine.id, mine.token, news)]) == {
            mine.id,
            other.id,
        }
        assert await store.write_progress([(mine.id, mine.token + 1, Progress(60.0))]) == set()
        await connection.execute("DELETE FROM tandem.lease WHERE job_id = %s", (mine.id,))
        assert await store.write_progress([(mine.id, mine.token, Progress(70.0))]) == set()
        assert await rows(
            connection, "SELECT percent, stage, attempt FROM tandem.progress ORDER BY job_id"
        ) == [
            (50.0, "half", 1),
            (50.0, "half", 1),
        ]


def test_in_tests_it_is_written_too_or_just_noted(db_url: str) -> None:
    registry = make_registry()
    with psycopg.connect(db_url) as connection:
        connection.execute("SELECT tandem.enqueue('coroutine')")
        assert len(drain(connection, registry).succeeded) == 1
        assert connection.execute("SELECT percent, stage FROM tandem.progress").fetchone() == (100.0, "ran")
    assert inline(registry, "coroutine").status == "SUCCEEDED"


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan"), float("inf"), True, "50", None])
def test_what_is_no_percentage_is_refused(percent: Any) -> None:
    with pytest.raises(InvalidInput):
        Progress.of(percent, "")


def test_a_stage_is_text_that_can_be_stored() -> None:
    assert Progress.of(1, "a\0b" + "c" * 500) == (1.0, "a\N{REPLACEMENT CHARACTER}b" + "c" * 197)


async def test_a_bad_id_is_no_stream(db_url: str) -> None:
    async with serving(db_url) as api:
        answer: httpx.Response = await api.get("/v1/jobs/none/events")
    assert answer.status_code == 404


def test_a_result_that_is_too_large_ends_the_job_and_says_the_way_out(db_url: str) -> None:
    registry = Registry()

    @registry.handler("large")
    async def large(job: Job[dict[str, Any]]) -> str:
        more: int = job.payload["more"]
        return "x" * (256 * 1024 - 2 + more)

    with psycopg.connect(db_url) as connection:
        for more in (0, 1):
            connection.execute("SELECT tandem.enqueue('large', jsonb_build_object('more', %s::int))", (more,))
        fits, too_large = drain(connection, registry).jobs
        assert (fits.status, len(fits.result)) == ("SUCCEEDED", 256 * 1024 - 2)
        assert (too_large.status, too_large.tries) == ("DEAD", 1)
        query = "SELECT error_class, reason FROM tandem.job_status WHERE job_id = %s"
        row = connection.execute(query, (too_large.job_id,)).fetchone()
        assert row is not None
        assert row[0] == "permanent"
        assert "the result has 262145 bytes, the limit is 262144: store the data in a table" in row[1]
