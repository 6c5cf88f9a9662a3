"""Redriving dead letters: from the start, once, with the kind's hook, and never by half."""

import asyncio
from typing import Any

import psycopg
import pytest

from app.database.connect import connect
from app.errors import Conflict, NotFound
from app.queue import admin
from app.queue.kinds import Change, Kind, Registry
from app.queue.store import Finish, Store
from tests.support.claims import add, claim, rows, value
from tests.support.states import fail

Connection = psycopg.AsyncConnection[Any]


async def nothing(_: object) -> None:
    """A handler."""


def hooked(refuse: int | None = None) -> tuple[Registry, list[Change]]:
    """A registry whose kind `test` notes its changes in a table, and refuses those of one job."""
    seen: list[Change] = []

    async def hook(connection: Connection, change: Change) -> None:
        seen.append(change)
        await connection.execute(
            "INSERT INTO noted VALUES (%s, %s, current_setting('synchronous_commit'))",
            (change.job_id, change.transition),
        )
        if change.job_id == refuse:
            raise ValueError("not this one")

    registry = Registry()
    registry.add(Kind("test", nothing, hook=hook))
    return registry, seen


async def dead_letters(connection: Connection, count: int, *, fingerprint: str = "f") -> list[int]:
    """Jobs of kind `test` that died at their first try; the kind is declared with a hook."""
    await Store(connection).declare_kinds([("test", 4, 3, True)])
    await connection.execute("CREATE TABLE IF NOT EXISTS noted (job bigint, transition text, flushed text)")
    jobs = await add(connection, count)
    for job in await claim(connection, count):
        await fail(connection, Registry(), job, f"ValueError: {job.id}", fingerprint=fingerprint)
    return jobs


async def test_a_dead_letter_begins_again(db_url: str) -> None:
    registry, seen = hooked()
    async with await connect(db_url, name="test") as connection:
        [job] = await dead_letters(connection, 1)
        others = await add(connection, 3)
        await connection.execute("SET synchronous_commit = off")
        await admin.redrive_job(connection, registry, job)
        found = await admin.read_job(connection, job)
        assert (found["status"], found["attempt"], found["crashes"], found["reason"]) == (
            "PENDING",
            0,
            0,
            None,
        )
        assert [one["verdict"] for one in found["attempts"]] == ["DEAD"], "its tries stay readable"
        assert [(one.transition, one.attempt, one.next_attempt_at) for one in seen] == [
            ("REDRIVEN", 0, found["next_attempt_at"])
        ]
        assert await rows(connection, "SELECT job, transition, flushed FROM noted") == [
            (job, "REDRIVEN", "on")
        ]
        assert await admin.check_membership(connection) == []
        assert [one.id for one in await claim(connection)] == [*others, job], "behind whoever waits already"


async def test_a_job_is_redriven_once(db_url: str) -> None:
    registry, seen = hooked()
    async with await connect(db_url, name="one") as one, await connect(db_url, name="two") as two:
        [job] = await dead_letters(one, 1)
        async with one.transaction():
            await admin.redrive_job(one, registry, job)
            second = asyncio.ensure_future(admin.redrive_job(two, registry, job))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
            while not await value(one, waiting, two.info.backend_pid) and not second.done():
                await asyncio.sleep(0)
        with pytest.raises(Conflict, match="is PENDING"):
            await second
        assert await value(one, "SELECT count(*) FROM tandem.ready") == 1
        assert len(seen) == 1
        assert await admin.check_membership(one) == []


async def test_a_later_death_is_another_dead_letter(db_url: str) -> None:
    registry, _ = hooked()
    async with await connect(db_url, name="test") as connection:
        [job] = await dead_letters(connection, 1)
        [letter] = await admin.list_dead_letters(connection)
        await admin.redrive_job(connection, registry, job, died_at=letter["died_at"])
        [claimed] = await claim(connection)
        await fail(connection, registry, claimed, "ValueError: again")
        with pytest.raises(Conflict) as caught:
            await admin.redrive_job(connection, registry, job, died_at=letter["died_at"])
        assert caught.value.code == "not-dead"
        await admin.redrive_job(connection, registry, job)


async def test_only_dead_letters_are_redriven(db_url: str) -> None:
    registry, seen = hooked()
    async with await connect(db_url, name="test") as connection:
        [waiting] = await add(connection, 1)
        with pytest.raises(Conflict, match="is PENDING"):
            await admin.redrive_job(connection, registry, waiting)
        [claimed] = await claim(connection)
        await Store(connection).finish_jobs([Finish(claimed.id, claimed.token, 1.0, None)])
        with pytest.raises(Conflict, match="is SUCCEEDED"):
            await admin.redrive_job(connection, registry, waiting)
        with pytest.raises(NotFound):
            await admin.redrive_job(connection, registry, 4711)
    assert seen == []


async def test_a_hook_that_raises_leaves_the_dead_letter(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        [job] = await dead_letters(connection, 1)
        registry, _ = hooked(refuse=job)
        with pytest.raises(ValueError, match="not this one"):
            await admin.redrive_job(connection, registry, job)
        assert (await admin.read_job(connection, job))["status"] == "DEAD"
        assert await value(connection, "SELECT count(*) FROM noted") == 0


async def test_who_lacks_the_hook_cannot_redrive(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        [job] = await dead_letters(connection, 1)
        with pytest.raises(Conflict) as caught:
            await admin.redrive_job(connection, Registry(), job)
        assert caught.value.code == "hook-unknown"
        assert (await admin.redrive_jobs(connection, Registry())).jobs == []
        assert (await admin.read_job(connection, job))["status"] == "DEAD"


async def test_many_are_redriven_by_what_they_have_in_common(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "REDRIVE_BATCH", 2)
    registry, seen = hooked()
    async with await connect(db_url, name="test") as connection:
        alike = await dead_letters(connection, 5, fingerprint="aaaa")
        others = await dead_letters(connection, 2, fingerprint="bbbb")
        assert (await admin.redrive_jobs(connection, registry, kind="other")).jobs == []
        some = await admin.redrive_jobs(connection, registry, fingerprint="aaaa", limit=3)
        assert some.jobs == alike[:3], "the oldest first"
        rest = await admin.redrive_jobs(
            connection, registry, fingerprint="aaaa", queue="default", kind="test"
        )
        assert rest.jobs == alike[3:]
        assert {one.job_id for one in seen} == set(alike)
        assert [row["job_id"] for row in await admin.list_dead_letters(connection)] == others[::-1]
        assert await admin.check_membership(connection) == []


async def test_one_that_cannot_be_redriven_does_not_hold_up_the_rest(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        jobs = await dead_letters(connection, 3)
        registry, _ = hooked(refuse=jobs[1])
        report = await admin.redrive_jobs(connection, registry)
        assert sorted(report.jobs) == [jobs[0], jobs[2]]
        assert report.failed == {jobs[1]: "ValueError: not this one"}
        assert await value(connection, "SELECT count(*) FROM noted") == 2
        assert (await admin.read_job(connection, jobs[1]))["status"] == "DEAD"


async def test_those_that_died_later_are_left(db_url: str) -> None:
    registry, _ = hooked()
    async with await connect(db_url, name="test") as connection:
        [first] = await dead_letters(connection, 1)
        until = await value(connection, "SELECT tandem.clock()")
        await dead_letters(connection, 1)
        assert (await admin.redrive_jobs(connection, registry, until=until)).jobs == [first]


async def test_a_rollback_of_the_caller_takes_the_redrive_back(db_url: str) -> None:
    registry, _ = hooked()
    async with await connect(db_url, name="test") as connection:
        [job] = await dead_letters(connection, 1)
        with pytest.raises(RuntimeError, match="changed my mind"):
            async with connection.transaction():
                await admin.redrive_job(connection, registry, job)
                raise RuntimeError("changed my mind")
        assert (await admin.read_job(connection, job))["status"] == "DEAD"
        assert await value(connection, "SELECT count(*) FROM noted") == 0


async def test_a_redrive_wakes_a_sleeper_and_forgets_an_old_cancel(db_url: str) -> None:
    registry, _ = hooked()
    async with (
        await connect(db_url, name="test") as connection,
        await connect(db_url, name="sleeper") as sleeper,
    ):
        [job] = await dead_letters(connection, 1)
        await connection.execute("INSERT INTO tandem.cancel_intent VALUES (%s, now(), 'ann', NULL)", (job,))
        lane = await value(sleeper, "SELECT tandem.wake_lane('default')")
        await sleeper.execute(f"LISTEN tandem_wake_{int(lane)}".encode())
        await sleeper.execute("SELECT pg_try_advisory_lock_shared(1413565006, %s)", (lane,))
        await admin.redrive_job(connection, registry, job)
        heard = [note.channel async for note in sleeper.notifies(timeout=10, stop_after=1)]
        assert heard == [f"tandem_wake_{lane}"]
        [claimed] = await claim(connection)
        assert (claimed.id, claimed.attempt, claimed.cancelled) == (job, 1, False)
