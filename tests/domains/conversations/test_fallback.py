"""The fallback: events without a living job get one, everything else is left alone, however many sweepers look."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.config import ConversationSettings
from app.database.connect import connect
from app.domains.conversations.facts import FallbackChecked
from app.domains.conversations.fallback import repair
from app.events import subscribe
from tests.support.conversations import (
    claim_one,
    end,
    event,
    read,
    serving,
    working,
    write,
)
from tests.support.membership import check_membership
from tests.support.waiting import eventually_async

SETTINGS = ConversationSettings()
OVERDUE = "UPDATE conversation_events SET next_attempt_at = clock_timestamp() - interval '1 second'"
LOSE = "WITH gone AS (DELETE FROM tandem.ready RETURNING job_id) DELETE FROM tandem.job USING gone WHERE id = job_id"


@pytest.fixture
def checks() -> Iterator[list[FallbackChecked]]:
    """What the fallback reports."""
    reported: list[FallbackChecked] = []
    leave = subscribe(FallbackChecked, reported.append)
    yield reported
    leave()


async def run(url: str, settings: ConversationSettings = SETTINGS) -> int:
    async with await connect(url, name="sweeper") as connection:
        return await repair(connection, settings)


async def test_a_lost_job_is_replaced_once(db_url: str, checks: list[FallbackChecked]) -> None:
    async with serving(db_url) as client:
        first = await end(client)
        write(db_url, LOSE)
        assert await run(db_url) == 0  # not overdue yet: the fast path has its time
        write(db_url, OVERDUE)
        assert await run(db_url) == 1
        assert await run(db_url) == 0
        again = await end(client)
    row = event(db_url)
    assert (row.stored, row.job_status) == ("PENDING", "PENDING")
    assert row.job_id != first["job_id"]
    assert again == first | {"job_id": row.job_id}
    [job] = read(db_url, "SELECT kind, queue, event_id, payload, created_at FROM tandem.job")
    assert (job.event_id, job.payload) == (row.event_id, {"event_id": str(row.event_id)})
    assert row.next_attempt_at - job.created_at > timedelta(minutes=9)
    assert checks == [FallbackChecked(0, 0, 0, 0), FallbackChecked(1, 0, 0, 1), FallbackChecked(0, 0, 0, 0)]
    check_membership(db_url)


@pytest.mark.parametrize("state", ["ready", "leased", "scheduled"])
async def test_an_event_whose_job_lives_keeps_it(
    db_url: str, state: str, checks: list[FallbackChecked]
) -> None:
    async with serving(db_url) as client:
        first = await end(client)
    if state == "leased":
        await claim_one(db_url)
    if state == "scheduled":
        write(
            db_url,
            "WITH gone AS (DELETE FROM tandem.ready RETURNING job_id, priority, attempt, crashes, suspect, queue)"
            " INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue)"
            " SELECT clock_timestamp(), job_id, priority, attempt, crashes, suspect, queue FROM gone",
        )
    write(db_url, OVERDUE)
    assert await run(db_url) == 0
    row = event(db_url)
    assert row.job_id == first["job_id"]
    assert row.next_attempt_at - row.created_at > timedelta(minutes=9)
    assert await run(db_url) == 0
    assert checks == [FallbackChecked(1, 1, 0, 0), FallbackChecked(0, 0, 0, 0)]


async def test_an_event_that_was_imported_without_a_job_is_processed(db_url: str) -> None:
    write(
        db_url,
        "INSERT INTO conversation_events (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time,"
        " end_time, conversation_log, body_hash, next_attempt_at, created_at) VALUES (gen_random_uuid(), 'conv_1',"
        " 'user_1', 'TALK', 'talk_book_corner', 'Book Corner', now(), now(), '[]', '', now(), now())",
    )
    async with serving(db_url) as client:
        state = (await client.get("/v1/conversations/conv_1")).json()
        assert (state["status"], state["job_id"], state["job"]) == ("PENDING", None, None)
        async with working(db_url, sweep=True):
            await eventually_async(lambda: event(db_url).status == "PROCESSED")


async def test_an_event_whose_job_ended_unseen_is_closed(db_url: str, checks: list[FallbackChecked]) -> None:
    async with serving(db_url) as client:
        await end(client)
    claimed = await claim_one(db_url)
    write(
        db_url,
        "WITH gone AS (DELETE FROM tandem.lease WHERE job_id = %s RETURNING job_id, attempt)"
        " INSERT INTO tandem.done (job_id, finished_at, attempt, outcome, error_class, reason)"
        " SELECT job_id, now(), attempt, 'DEAD', 'permanent', 'by hand' FROM gone",
        claimed.id,
    )
    write(db_url, OVERDUE)
    assert await run(db_url) == 0
    row = event(db_url)
    assert (row.stored, row.error_code, row.error_details) == ("FAILED", "permanent", "by hand")
    assert checks == [FallbackChecked(1, 0, 1, 0)]


async def test_what_is_processed_or_failed_is_never_looked_at(
    db_url: str, checks: list[FallbackChecked]
) -> None:
    async with serving(db_url) as client, working(db_url):
        await end(client)
        await eventually_async(lambda: event(db_url).status == "PROCESSED")
    write(db_url, "DELETE FROM tandem.done")
    write(db_url, "UPDATE conversation_events SET next_attempt_at = now() - interval '1 day'")
    assert await run(db_url) == 0
    assert checks == [FallbackChecked(0, 0, 0, 0)]


async def test_batches_and_two_sweepers_at_once_replace_each_job_once(
    db_url: str, checks: list[FallbackChecked]
) -> None:
    async with serving(db_url) as client:
        for number in range(25):
            await end(client, f"conv_{number}", f"user_{number}")
    write(db_url, LOSE)
    write(db_url, OVERDUE)
    small = ConversationSettings(fallback_batch=10)
    assert sum(await asyncio.gather(*(run(db_url, small) for _ in range(3)))) == 25
    jobs = read(db_url, "SELECT event_id FROM tandem.job")
    assert len(jobs) == len({job.event_id for job in jobs}) == 25
    assert sum(check.reprocessed for check in checks) == 25
    check_membership(db_url)


async def test_a_lost_event_is_processed_by_sweeper_and_worker(db_url: str) -> None:
    async with serving(db_url) as client:
        await end(client)
        write(db_url, LOSE)
        write(db_url, OVERDUE)
    async with working(db_url, sweep=True):
        await eventually_async(lambda: event(db_url).status == "PROCESSED")
