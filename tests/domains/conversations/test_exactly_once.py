"""A conversation counts once, whatever dies, repeats or comes too late between its claim and its commit."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.config import CHECKOUT, DatabaseSettings
from app.database.connect import connect
from app.database.engine import make_engine, make_session_factory
from app.domains.conversations import processing_store
from app.domains.conversations.jobs import KIND, QUEUE
from app.queue.lease import LeaseLost
from app.queue.running import Job
from tests.support.conversations import (
    claim_one,
    end,
    event,
    friendship,
    handle,
    opened_sessions,
    read,
    registered,
    serving,
    working,
    write,
)
from tests.support.lost_answers import LosingProxy
from tests.support.membership import check_membership
from tests.support.waiting import eventually, eventually_async
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import Settled

AT_ONCE = timedelta(0)


def assert_counted_once(url: str) -> None:
    row, friend = event(url), friendship(url)
    assert (row.stored, row.job_status) == ("PROCESSED", "SUCCEEDED")
    assert (friend.conversations, friend.friendship_score) == (1, row.friendship_score_change)
    check_membership(url)


async def rescue(url: str, registry: Any) -> None:
    async with await connect(url, name="rescue") as connection:
        await RescueJobs(registry, Settled()).run_once(connection)


async def test_a_stale_try_writes_nothing_before_and_after_the_new_one(db_url: str) -> None:
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        await end(client)
        stale = await claim_one(db_url, lease=AT_ONCE)
        await rescue(db_url, registry)
        fresh = await claim_one(db_url)
        with pytest.raises(LeaseLost):
            await handle(registry, stale)
        assert event(db_url).stored == "PENDING"
        await handle(registry, fresh)
        job: Job[Any] = await handle(registry, stale)
    assert not job.completed  # it found the event processed; the worker's finish of it is fenced off
    assert_counted_once(db_url)


async def test_a_try_that_dies_before_its_commit_leaves_nothing(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = processing_store.record_outcome

    async def record_and_die(session: Any, values: Any) -> bool:
        await record(session, values)
        raise ConnectionResetError("the process is gone")

    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        await end(client)
        claimed = await claim_one(db_url)
        with monkeypatch.context() as patch:
            patch.setattr(processing_store, "record_outcome", record_and_die)
            with pytest.raises(ConnectionResetError):
                await handle(registry, claimed)
        assert event(db_url).status == "PROCESSING"
        assert read(db_url, "SELECT user_id FROM friendship_status") == []
        assert read(db_url, "SELECT user_id FROM agent_candidates") == []
        await handle(registry, claimed)
    assert_counted_once(db_url)


async def test_a_lost_answer_to_the_commit_does_not_count_twice(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction commits, the worker cannot know, and its job is tried again by whoever claims it."""
    complete = Job._complete
    async with serving(db_url) as client:
        await end(client)
    claimed = await claim_one(db_url)
    with LosingProxy(db_url) as proxy:
        engine = make_engine(proxy.url, name="handlers", settings=DatabaseSettings(call_timeout_seconds=1.5))
        registry = registered(make_session_factory(engine))

        async def complete_and_lose(self: Job[Any], *args: Any) -> None:
            await complete(self, *args)
            proxy.lose_answers()

        monkeypatch.setattr(Job, "_complete", complete_and_lose)
        with pytest.raises(Exception, match="did not answer"):
            await handle(registry, claimed)
        proxy.keep_answers()
        await engine.dispose()
    await eventually_async(lambda: event(db_url).stored == "PROCESSED")
    assert_counted_once(db_url)


async def test_a_lock_that_comes_too_late_or_a_deadlock_does_not_cost_a_try(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = processing_store.lock_friendship
    passing: list[Exception] = [psycopg.errors.LockNotAvailable(), psycopg.errors.DeadlockDetected()]

    async def lock_at_last(session: Any, user_id: str) -> Any:
        if passing:
            raise passing.pop()
        return await lock(session, user_id)

    monkeypatch.setattr(processing_store, "lock_friendship", lock_at_last)
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        await end(client)
        claimed = await claim_one(db_url)
        await handle(registry, claimed)
        assert_counted_once(db_url)

        passing += [psycopg.errors.LockNotAvailable() for _ in range(3)]
        await end(client, "conv_2")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await handle(registry, await claim_one(db_url))
    assert event(db_url, "conv_2").stored == "PENDING"


async def test_two_jobs_for_one_event_count_it_once(db_url: str) -> None:
    async with opened_sessions(db_url) as sessions, serving(db_url) as client:
        registry = registered(sessions)
        answer = await end(client)
        await end(client, "other", "user_2")
        write(
            db_url,
            "SELECT tandem.enqueue(%s, jsonb_build_object('event_id', %s::uuid), %s, event_id => %s::uuid)",
            KIND, answer["event_id"], QUEUE, answer["event_id"],
        )  # fmt: skip
        claims = [await claim_one(db_url) for _ in range(3)]
        await asyncio.gather(*(handle(registry, claimed) for claimed in claims))
    row, friend = event(db_url), friendship(db_url)
    assert (friend.conversations, friend.friendship_score) == (1, row.friendship_score_change)


async def test_a_running_job_shows_as_processing_without_a_write(db_url: str) -> None:
    async with serving(db_url) as client:
        await end(client)
        before = read(db_url, "SELECT xmin::text FROM conversation_events")
        await claim_one(db_url)
        state = (await client.get("/v1/conversations/conv_1")).json()
    assert (state["status"], state["job"]["status"], state["job"]["attempt"]) == ("PROCESSING", "RUNNING", 1)
    assert event(db_url).stored == "PENDING"
    assert read(db_url, "SELECT xmin::text FROM conversation_events") == before


@contextmanager
def worker_process(url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a process of its own, with leases of a second."""
    environment = os.environ | {
        "DATABASE_URL": url,
        "TANDEM_WORKER__LEASE_SECONDS": "1",
        "TANDEM_SWEEPER__EVERY_SECONDS": "0.2",
        "TANDEM_SWEEPER__LEADER_LEASE_SECONDS": "1",
    }
    process = subprocess.Popen([sys.executable, "-m", "app.cli", "worker"], cwd=CHECKOUT, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)


@pytest.mark.chaos
async def test_a_worker_killed_within_its_transaction_counts_nothing_and_the_next_one_once(
    db_url: str,
) -> None:
    async with serving(db_url) as client:
        await end(client)
    with psycopg.connect(db_url) as blocker, worker_process(db_url) as process:
        # The handler comes as far as the user's row, inside the transaction that holds its lease, and waits there.
        blocker.execute(
            "INSERT INTO friendship_status (user_id, created_at, updated_at) VALUES ('user_1', now(), now())"
        )
        eventually(
            lambda: read(
                db_url,
                "SELECT pid FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND query LIKE '%friendship_status%'",
            ),
            timeout=30,
        )
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        blocker.rollback()
    assert event(db_url).stored == "PENDING"
    async with working(db_url, sweep=True, lease_seconds=2.0):
        await eventually_async(lambda: event(db_url).stored == "PROCESSED", timeout=30)
    assert_counted_once(db_url)
