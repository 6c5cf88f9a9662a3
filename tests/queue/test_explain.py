"""explain(job): a job in every state says why it does not run, what matters most first."""

from datetime import timedelta

import psycopg
import pytest

from app.database.connect import connect
from app.queue.enqueue import enqueue_async
from app.queue.explain import CODES, Reason, explain_job
from app.queue.job import NewJob
from app.queue.store import Store
from tests.support.admission import admit, limit, manage
from tests.support.claims import add, claim, pairs, rows
from tests.support.states import ALIVE, States, enqueue, fill

EXPECTED = {
    "ready": ["waiting"],
    "forgotten": ["waiting"],
    "paused": ["queue-paused", "no-worker", "waiting"],
    "unserved": ["no-worker", "waiting"],
    "scheduled": ["not-due"],
    "overdue": ["due", "no-sweeper", "no-worker"],
    "retried": ["not-due"],
    "blocked": ["blocked-key"],
    "running": ["running"],
    "expired": ["lease-overdue", "no-sweeper"],
    "succeeded": ["succeeded"],
    "dead": ["dead"],
    "cancelled": ["cancelled"],
}


@pytest.fixture
async def states(db_url: str) -> States:
    """Jobs in every state."""
    return await fill(db_url)


async def asked(url: str, job: int) -> list[Reason]:
    """The answer on a connection of its own."""
    async with await connect(url, name="test") as connection:
        reasons = await explain_job(connection, job)
    assert {one.code for one in reasons} <= set(CODES)
    return reasons


async def test_a_job_in_every_state_says_why(states: States) -> None:
    found = {name: await asked(states.url, states.jobs[name][0]) for name in EXPECTED}
    assert {name: [one.code for one in reasons] for name, reasons in found.items()} == EXPECTED
    text = {name: reasons[0].text for name, reasons in found.items()}
    assert text["ready"] == "0 jobs of queue default come first; its workers hold 3 jobs and have 4 slots"
    assert text["forgotten"].startswith("2 jobs of queue default")
    assert text["paused"] == "queue mail is paused by ann"
    assert text["unserved"] == "no live worker serves queue reports"
    assert text["scheduled"] == "it is not due yet"
    assert (
        text["retried"]
        == "the last try failed (temporary: ValueError: once more); the next one is not due yet"
    )
    assert text["blocked"] == "it waits for its key (partition key customer-7)"
    assert text["running"] == "worker host:1 runs its try 1, or is about to"
    assert "worker host:2" in text["expired"]
    assert text["expired"].endswith("a sweep that knows the kind scored takes it back")
    assert text["succeeded"] == "worker host:1 ended it at try 1"
    assert text["dead"] == "a dead letter after try 1: temporary: ValueError: number 0"
    assert text["cancelled"] == "it was cancelled: temporary: not wanted"


async def test_the_times_say_since_when_and_until_when(states: States) -> None:
    [waiting] = await asked(states.url, states.jobs["forgotten"][0])
    assert waiting.since is not None
    assert waiting.until is None
    [later] = await asked(states.url, states.one("scheduled"))
    assert later.since is not None
    assert later.until is not None
    assert timedelta(minutes=59) < later.until - later.since <= timedelta(minutes=60)
    [again] = await asked(states.url, states.one("retried"))
    assert again.since is not None
    assert again.until == again.since + timedelta(hours=1)
    [held] = await asked(states.url, states.jobs["running"][0])
    assert held.since is not None
    assert held.until == held.since + timedelta(seconds=30)
    overdue = await asked(states.url, states.one("expired"))
    assert overdue[0].since is not None
    assert overdue[0].since < held.since


async def test_a_cancel_that_was_asked_for_comes_first(states: States) -> None:
    asked_for, running = await asked(states.url, states.jobs["running"][1])
    assert (asked_for.code, running.code) == ("cancel-asked", "running")
    assert asked_for.text == "ann asked for its cancel; its worker ends it at the next heartbeat"
    async with await connect(states.url, name="test") as connection:
        await connection.execute(
            "INSERT INTO tandem.cancel_intent VALUES (%s, tandem.clock(), NULL, 'a duplicate')",
            (states.jobs["ready"][0],),
        )
    first, *_ = await asked(states.url, states.jobs["ready"][0])
    assert first.text == "somebody asked for its cancel (a duplicate); the next claim or sweep ends it"


@pytest.mark.parametrize("job", [10**9, 0, -1, 2**63 - 1, 2**63, -(2**70)])
async def test_an_id_that_nobody_has_is_unknown(db_url: str, job: int) -> None:
    [only] = await asked(db_url, job)
    assert (only.code, only.since, only.until) == ("unknown-job", None, None)


async def test_a_job_that_stands_nowhere_is_lost(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        [job] = await add(connection, 1)
        await connection.execute("DELETE FROM tandem.ready WHERE job_id = %s", (job,))
    assert [one.code for one in await asked(db_url, job)] == ["lost"]


async def test_a_suspect_says_that_it_will_run_alone(states: States) -> None:
    job = states.one("expired")
    async with await connect(states.url, name="test") as connection:
        [token] = await rows(connection, "SELECT token FROM tandem.lease WHERE job_id = %s", job)
        assert await Store(connection).rescue_jobs([(job, token[0])])
        ready = await explain_job(connection, job)
        assert [one.code for one in ready] == ["suspect", "waiting"]
        held = [one for one in await claim(connection, 20) if one.id == job]
        [waits] = await explain_job(connection, job)
        assert waits.code == "suspect-waits"
        assert await Store(connection).mark_alone(*pairs(held)[0])
        [alone] = await explain_job(connection, job)
    assert alone.code == "running"
    assert alone.text.startswith("worker host:1 runs its try 1 alone")


async def test_what_comes_first_is_counted_by_priority_then_position(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await add(connection, 3, priority=5)
        [job] = await add(connection, 1, priority=5)
        await add(connection, 2, priority=9)
        await add(connection, 4, priority=1)
        await add(connection, 5, priority=9, queue="mail")

        async def ahead() -> str:
            return (await explain_job(connection, job))[-1].text.partition(" of queue")[0]

        assert await ahead() == "5 jobs"
        await add(connection, 998, priority=7)
        assert await ahead() == "1000 or more jobs"


async def test_a_kind_that_no_worker_knows_is_named(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        job = await enqueue(connection, "mistyped")
    first, last = await asked(states.url, job)
    assert (first.code, last.code) == ("kind-unknown", "waiting")
    assert first.text == "no worker has ever declared the kind mistyped"


async def test_admission_waits_for_a_slot_or_a_rate_and_that_is_said(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        await manage(connection)
        await enqueue(connection, "test")
        await admit(connection, 10)
        job = await enqueue(connection, "test")
        [reason, *_] = await explain_job(connection, job)
        assert reason.code == "blocked-limit"
        assert "slots: its workers hold" in reason.text
        await limit(connection, "key:default/a", rate=0.01, burst=1)
        await add(connection, 2, partition_key="a")
        await admit(connection, 1)
        [late] = await add(connection, partition_key="a")
        assert "not-before: its key may start" in (await explain_job(connection, late))[0].text


async def test_a_start_deadline_is_said(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        due = (await rows(connection, "SELECT tandem.clock() + interval '1 hour'"))[0][0]
        job = (await enqueue_async(connection, NewJob("test", start_by=due))).job_id
        deadline = (await explain_job(connection, job))[-1]
    assert (deadline.code, deadline.until) == ("start-deadline", due)


async def test_a_worker_that_stopped_serves_nothing(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        await Store(connection).stop_worker(ALIVE)
    first, _ = await asked(states.url, states.jobs["ready"][0])
    assert first.code == "no-worker"
    assert first.since is not None, "when the last one was seen"


def test_any_sql_client_may_ask(tx: psycopg.Connection[tuple[object, ...]]) -> None:
    tx.execute("SELECT tandem.enqueue('plain')")
    found = tx.execute(
        "SELECT e.reason FROM tandem.job AS j CROSS JOIN LATERAL tandem.explain(j.id) AS e ORDER BY j.id, e.reason"
    ).fetchall()
    assert found == [("kind-unknown",), ("no-worker",), ("waiting",)]
