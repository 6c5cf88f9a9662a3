"""What operators read, and what they do to queues."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import CHECKOUT
from app.database.connect import connect
from app.errors import InvalidInput, NotFound
from app.queue import admin
from app.queue.admin import STATUSES, Status
from tests.support import databases
from tests.support.claims import add, claim, every_lane, value, worker_connection
from tests.support.states import States, fill

STATES: dict[str, tuple[Status, str | None]] = {
    "ready": ("PENDING", "nothing"),
    "paused": ("PENDING", "nothing"),
    "scheduled": ("PENDING", "time"),
    "retried": ("PENDING", "time"),
    "blocked": ("PENDING", "key"),
    "running": ("RUNNING", None),
    "expired": ("RUNNING", None),
    "succeeded": ("SUCCEEDED", None),
    "dead": ("DEAD", None),
    "cancelled": ("CANCELLED", None),
}


@pytest.fixture(scope="module")
def states(server_url: str, template: str) -> Iterator[States]:
    """Jobs in every state, for tests that only read."""
    with databases.clone(server_url, template) as url:
        yield asyncio.run(fill(url))


@pytest.mark.parametrize("state", STATES)
async def test_a_job_is_told_as_it_stands(states: States, state: str) -> None:
    status, waiting_for = STATES[state]
    async with await connect(states.url, name="test") as connection:
        for job in states.jobs[state]:
            found = await admin.read_job(connection, job)
            assert (found["job_id"], found["status"], found["waiting_for"]) == (job, status, waiting_for)
            assert (found["payload"], found["queue"]) == (
                {"n": 1},
                "mail" if state == "paused" else "default",
            )
            assert (found["next_attempt_at"] is not None) == (status == "PENDING")
            assert (found["finished_at"] is not None) == (status in ("SUCCEEDED", "DEAD", "CANCELLED"))


async def test_a_job_is_told_with_everything_around_it(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        running = await admin.read_job(connection, states.jobs["running"][1])
        assert (running["worker_name"], running["attempt"], running["cancel_requested_by"]) == (
            "host:1",
            1,
            "ann",
        )
        assert running["expires_at"] > running["started_at"]
        succeeded = await admin.read_job(connection, states.jobs["succeeded"][0])
        assert (succeeded["result"], succeeded["attempts"]) == ({"ok": True}, [])
        dead = await admin.read_job(connection, states.jobs["dead"][0])
        assert (dead["reason"], dead["fingerprint"], dead["error_class"]) == (
            "ValueError: number 0",
            "bbbb",
            "temporary",
        )
        [tried] = dead["attempts"]
        assert (tried["attempt"], tried["verdict"], tried["worker_name"]) == (1, "DEAD", "host:1")
        assert tried["traceback"].endswith("ValueError: number 0")
        retried = await admin.read_job(connection, states.one("retried"))
        assert [(one["verdict"], one["message"]) for one in retried["attempts"]] == [
            ("RETRY", "ValueError: once more")
        ]
        assert (await admin.read_job(connection, states.one("paused")))["queue_paused_at"] is not None


@pytest.mark.parametrize("job", [0, -1, 4711, 2**63 - 1, 2**63, 2**80])
async def test_a_job_that_is_not_there_is_not_found(states: States, job: int) -> None:
    async with await connect(states.url, name="test") as connection:
        with pytest.raises(NotFound) as caught:
            await admin.read_job(connection, job)
    assert caught.value.code == "unknown-job"


async def test_jobs_are_listed_newest_first_page_by_page(states: States) -> None:
    every = sorted((job for jobs in states.jobs.values() for job in jobs), reverse=True)
    async with await connect(states.url, name="test") as connection:
        listed: list[int] = []
        before: int | None = None
        while page := await admin.list_jobs(connection, limit=4, before=before):
            assert len(page) <= 4
            listed += [row["job_id"] for row in page]
            before = listed[-1]
        assert listed == every
        assert [row["job_id"] for row in await admin.list_jobs(connection, limit=1000)] == every


@pytest.mark.parametrize("status", STATUSES)
async def test_jobs_are_listed_by_status(states: States, status: Status) -> None:
    async with await connect(states.url, name="test") as connection:
        everything = await admin.list_jobs(connection, limit=1000)
        found = await admin.list_jobs(connection, status=status)
    assert found == [row for row in everything if row["status"] == status]
    assert found


async def test_jobs_are_listed_by_kind_and_queue(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        scored = await admin.list_jobs(connection, kind="scored")
        assert [row["job_id"] for row in scored] == states.jobs["expired"]
        reports = await admin.list_jobs(connection, queue="reports", status="PENDING")
        expected = states.jobs["unserved"] + states.jobs["overdue"]
        assert sorted(row["job_id"] for row in reports) == sorted(expected)
        assert await admin.list_jobs(connection, kind="plain", queue="nowhere") == []


async def test_a_list_refuses_what_it_cannot_answer(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        for limit in (0, -1, 1001):
            with pytest.raises(InvalidInput, match="limit is 1 to 1000"):
                await admin.list_jobs(connection, limit=limit)
        with pytest.raises(InvalidInput, match="none of PENDING, RUNNING"):
            await admin.list_jobs(connection, status="LOST")  # type: ignore[arg-type]


async def test_queues_are_listed_with_what_is_in_them(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        queues = {row["queue"]: row for row in await admin.list_queues(connection)}
    default, mail = queues["default"], queues["mail"]
    assert {name: default[name] for name in ("ready", "scheduled", "blocked", "running", "dead_24h")} == {
        "ready": 3,
        "scheduled": 2,
        "blocked": 1,
        "running": 3,
        "dead_24h": 3,
    }
    assert default["oldest_ready_at"] is not None
    assert (default["declared"], default["paused_at"]) == (True, None)
    assert mail["paused_by"] == "ann"
    assert queues["reports"]["next_due"] is not None


async def test_dead_letters_are_listed_latest_first_page_by_page(states: States) -> None:
    async with await connect(states.url, name="test") as connection:
        everything = await admin.list_dead_letters(connection)
        assert [row["job_id"] for row in everything] == states.jobs["dead"][::-1]
        assert everything[0]["reason"] == "ValueError: number 2"
        first = await admin.list_dead_letters(connection, limit=2)
        rest = await admin.list_dead_letters(connection, before=(first[-1]["died_at"], first[-1]["job_id"]))
        assert first + rest == everything
        alike = await admin.list_dead_letters(connection, fingerprint="aaaa", kind="plain", queue="default")
        assert [row["job_id"] for row in alike] == states.jobs["dead"][:0:-1]
        assert await admin.list_dead_letters(connection, queue="mail") == []


async def test_membership_is_checked(states: States, db_url: str) -> None:
    async with await connect(states.url, name="test") as connection:
        assert await admin.check_membership(connection) == []
    async with await connect(db_url, name="test") as connection:
        lost, _ = await add(connection, 2)
        await connection.execute("DELETE FROM tandem.ready WHERE job_id = %s", (lost,))
        assert await admin.check_membership(connection) == [
            {"job_id": lost, "problem": "nowhere", "places": None}
        ]


def test_membership_is_the_same_question_in_psql() -> None:
    def text(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if not line.startswith(("--", "ORDER BY"))]

    sql = CHECKOUT / "sql"
    assert text(sql / "queries/admin/check_membership.sql") == text(sql / "inspect/membership.sql")


async def test_a_paused_queue_is_not_claimed_from_until_it_is_resumed(db_url: str) -> None:
    async with await worker_connection(db_url) as worker, await connect(db_url, name="test") as operator:
        await add(worker, 2)
        paused = await admin.pause_queue(operator, "default", by="ann")
        assert (paused["queue"], paused["paused_by"]) == ("default", "ann")
        again = await admin.pause_queue(operator, "default", by="bob")
        assert again == paused, "who paused first is who paused"
        assert await claim(worker) == []
        assert (await admin.resume_queue(operator, "default"))["paused_at"] is None
        assert len(await claim(worker)) == 2


async def test_resuming_wakes_a_sleeper(db_url: str) -> None:
    async with (
        await connect(db_url, name="test") as operator,
        await connect(db_url, name="sleeper") as sleeper,
    ):
        await add(operator, 1)
        await admin.pause_queue(operator, "default")
        lane = await value(sleeper, "SELECT tandem.wake_lane('default')")
        await sleeper.execute(f"LISTEN tandem_wake_{int(lane)}".encode())
        await sleeper.execute("SELECT pg_try_advisory_lock_shared(1413565006, %s)", (lane,))
        await admin.resume_queue(operator, "default")
        heard = [note.channel async for note in sleeper.notifies(timeout=10, stop_after=1)]
    assert heard == [f"tandem_wake_{lane}"]


async def test_a_queue_that_nobody_knows_is_not_paused(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        with pytest.raises(NotFound, match="'defualt'"):
            await admin.pause_queue(connection, "defualt")
        with pytest.raises(NotFound):
            await admin.resume_queue(connection, "defualt")
        await add(connection, 1, queue="new")
        assert (await admin.pause_queue(connection, "new"))["paused_at"] is not None
        assert await claim(connection, lanes=every_lane(["new"])) == []
