"""Cancelling: at once where a job waits, by intent where it runs, and never a run after it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from app.database.connect import connect
from app.errors import Conflict, NotFound
from app.queue import admin
from app.queue.kinds import Change, Kind, Registry
from app.queue.store import Store
from tests.support.claims import LEASE, add, claim, pairs, rows, value
from tests.support.states import States, fill

Connection = psycopg.AsyncConnection[Any]
NOBODY = Registry()


async def nothing(_: object) -> None:
    """A handler."""


def hooked() -> tuple[Registry, list[Change]]:
    """A registry whose kind `test` notes its changes."""
    seen: list[Change] = []

    async def hook(_: Connection, change: Change) -> None:
        seen.append(change)

    registry = Registry()
    registry.add(Kind("test", nothing, hook=hook))
    return registry, seen


@pytest.fixture
async def states(db_url: str) -> States:
    """Jobs in every state, to be changed."""
    return await fill(db_url)


@pytest.mark.parametrize("state", ["ready", "scheduled", "retried", "blocked", "paused"])
async def test_a_waiting_job_ends_at_once(states: States, state: str) -> None:
    job = states.jobs[state][0]
    async with await connect(states.url, name="test") as connection:
        answer = await admin.cancel_job(connection, NOBODY, job, by="ann", reason="not needed any more")
        assert answer == "CANCELLED"
        found = await admin.read_job(connection, job)
        assert (found["status"], found["reason"], found["error_class"]) == (
            "CANCELLED",
            "not needed any more",
            "cancelled",
        )
        assert (found["started_at"], found["worker"], found["cancel_requested_at"]) == (None, None, None)
        assert await admin.check_membership(connection) == []
        assert await admin.cancel_job(connection, NOBODY, job) == "CANCELLED", "asking twice is no error"
        assert (
            await value(connection, "SELECT count(*) FROM tandem.cancel_intent") == 1
        )  # the running one of `fill`


async def test_a_running_job_is_told_by_the_heartbeat(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await add(connection, 1)
        [job] = await claim(connection)
        assert await admin.cancel_job(connection, NOBODY, job.id, by="ann", reason="first") == "REQUESTED"
        assert await admin.cancel_job(connection, NOBODY, job.id, by="bob", reason="second") == "REQUESTED"
        intents = await rows(connection, "SELECT job_id, requested_by, reason FROM tandem.cancel_intent")
        assert intents == [(job.id, "ann", "first")]
        told = await Store(connection).extend_leases(pairs([job]), lease=LEASE)
        assert list(told.values()) == [True]
        assert (await admin.read_job(connection, job.id))["cancel_reason"] == "first"


@pytest.mark.parametrize("state", ["succeeded", "dead"])
async def test_what_has_ended_is_not_cancelled(states: States, state: str) -> None:
    async with await connect(states.url, name="test") as connection:
        with pytest.raises(Conflict, match=f"it is {state.upper()}"):
            await admin.cancel_job(connection, NOBODY, states.jobs[state][0])
        with pytest.raises(NotFound):
            await admin.cancel_job(connection, NOBODY, 4711)
        with pytest.raises(NotFound):
            await admin.cancel_job(connection, NOBODY, 2**70)
        assert await value(connection, "SELECT count(*) FROM tandem.cancel_intent") == 1


async def test_the_hook_hears_of_it_in_the_same_transaction(db_url: str) -> None:
    registry, seen = hooked()
    async with await connect(db_url, name="test") as connection:
        await Store(connection).declare_kinds([("test", 4, 3, True)])
        [job] = await add(connection, 1)
        assert await admin.cancel_job(connection, registry, job, reason="why") == "CANCELLED"
        assert [(one.job_id, one.transition, one.attempt, one.message) for one in seen] == [
            (job, "CANCELLED", 0, "why")
        ]


async def test_who_lacks_the_hook_leaves_it_to_who_has_it(db_url: str) -> None:
    registry, seen = hooked()
    async with await connect(db_url, name="test") as connection:
        await Store(connection).declare_kinds([("test", 4, 3, True)])
        later = datetime.now(UTC) + timedelta(hours=1)
        waiting, scheduled = [*await add(connection, 1), *await add(connection, 1, run_at=later)]
        for job in (waiting, scheduled):
            assert await admin.cancel_job(connection, NOBODY, job) == "REQUESTED"
            assert (await admin.read_job(connection, job))["status"] == "PENDING"
        [claimed] = await claim(connection)
        assert claimed.cancelled, "a worker ends it instead of running it"
        assert await admin.settle_cancels(connection, registry) == 1
        assert [(one.job_id, one.transition) for one in seen] == [(scheduled, "CANCELLED")]
        assert await value(connection, "SELECT array_agg(job_id) FROM tandem.cancel_intent") == [waiting]
        assert await admin.check_membership(connection) == []


async def test_requests_of_jobs_that_ended_by_themselves_are_forgotten(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        await connection.execute(
            "INSERT INTO tandem.cancel_intent SELECT unnest(%s::bigint[]), now(), 'ann', NULL",
            (states.jobs["succeeded"] + states.jobs["ready"],),
        )
        assert await admin.settle_cancels(connection, NOBODY) == len(states.jobs["ready"])
        left = await value(connection, "SELECT array_agg(job_id) FROM tandem.cancel_intent")
        assert left == [states.jobs["running"][1]]
        assert await admin.settle_cancels(connection, NOBODY) == 0


async def test_one_whose_hook_raises_does_not_hold_up_the_rest(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        jobs = await add(connection, 5)

        async def hook(_: Connection, change: Change) -> None:
            if change.job_id == jobs[1]:
                raise ValueError("not this one")

        registry = Registry()
        registry.add(Kind("test", nothing, hook=hook))
        await connection.execute(
            "INSERT INTO tandem.cancel_intent SELECT unnest(%s::bigint[]), now(), 'ann', NULL", (jobs,)
        )
        assert await admin.settle_cancels(connection, registry, most=2) == 4
        assert (await admin.read_job(connection, jobs[1]))["status"] == "PENDING"
        assert await value(connection, "SELECT array_agg(job_id) FROM tandem.cancel_intent") == [jobs[1]]
        assert await admin.check_membership(connection) == []


async def test_those_whose_hook_is_unknown_here_do_not_hide_the_others(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        await Store(connection).declare_kinds([("hooked", 4, 3, True)])
        left = await add(connection, 3, kind="hooked")
        jobs = await add(connection, 2)
        await connection.execute(
            "INSERT INTO tandem.cancel_intent SELECT unnest(%s::bigint[]), now(), 'ann', NULL", (left + jobs,)
        )
        assert await admin.settle_cancels(connection, NOBODY, most=1) == 2
        assert (
            await value(connection, "SELECT array_agg(job_id ORDER BY job_id) FROM tandem.cancel_intent")
            == left
        )


async def test_a_job_that_moves_meanwhile_is_found_where_it_went(states: States) -> None:
    """The cancel waits for the promotion's row, finds it gone, and looks once more."""
    job = states.one("overdue")
    async with (
        await connect(states.url, name="mover") as mover,
        await connect(states.url, name="test") as other,
    ):
        async with mover.transaction():
            moved, _, _ = await Store(mover).promote_jobs(after=datetime(1970, 1, 1, tzinfo=UTC), most=10)
            assert moved == 1
            cancel = asyncio.ensure_future(admin.cancel_job(other, NOBODY, job))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
            while not await value(mover, waiting, other.info.backend_pid) and not cancel.done():
                await asyncio.sleep(0)
        assert await cancel == "CANCELLED"
        assert (await admin.read_job(other, job))["status"] == "CANCELLED"
        assert await admin.check_membership(other) == []
