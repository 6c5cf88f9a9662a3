"""What a process holds: room for what its slots can start, nothing lost when takers come and go."""

import asyncio
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from app.queue.job import ClaimedJob
from workers.inbox import Inbox

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(number: int, **options: Any) -> ClaimedJob:
    fields: dict[str, Any] = {
        "token": 1000 + number, "id": number, "position": number, "queue": "default", "priority": 5, "attempt": 1,
        "crashes": 0, "suspect": False, "partition_key": None, "ready_at": NOW, "claimed_at": NOW, "kind": "test",
        "raw_payload": "{}", "event_id": None, "raw_policy": None, "raw_context": None, "created_at": NOW,
        "cancelled": False, "received_at": 0.0,
    }  # fmt: skip
    return ClaimedJob(**{**fields, **options})


async def takers(inbox: Inbox, count: int) -> list[asyncio.Task[ClaimedJob]]:
    tasks = [asyncio.create_task(inbox.take()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_there_is_room_for_free_slots_and_none_behind_busy_ones() -> None:
    inbox = Inbox(slots=3, most=100)
    assert inbox.room() == 0, "no slot is ready yet"
    waiting = await takers(inbox, 3)
    assert inbox.room() == 3
    inbox.push([job(1), job(2), job(3)], asked_at=0.0)
    assert {task.result().id for task in (await asyncio.wait(waiting))[0]} == {1, 2, 3}
    assert inbox.room() == 0, "slow jobs: what is kept here would wait while other workers are free"


async def test_fast_jobs_earn_a_reserve() -> None:
    inbox = Inbox(slots=1, most=20)
    for number in range(1000):
        inbox.push([job(number)], asked_at=0.0)
        await inbox.take()
        inbox.ended(number, 1000 + number)
    inbox._measured -= 0.1  # as if that had taken a tenth of a second
    assert inbox.room() == 20


async def test_a_job_put_back_is_the_next_one() -> None:
    inbox = Inbox(slots=2, most=10)
    inbox.push([job(1), job(2)], asked_at=0.0)
    first = await inbox.take()
    inbox.put_back(first)
    assert [(await inbox.take()).id for _ in range(2)] == [1, 2]


async def test_a_taker_that_is_cancelled_loses_no_job() -> None:
    inbox = Inbox(slots=2, most=10)
    first, second = await takers(inbox, 2)
    inbox.push([job(1)], asked_at=0.0)
    first.cancel()
    assert (await asyncio.wait_for(second, 5)).id == 1


async def test_leases_are_named_by_job_and_token() -> None:
    inbox = Inbox(slots=2, most=10)
    old, new = job(1), job(1, token=7)
    inbox.push([old, new], asked_at=0.0)
    inbox.ended(1, old.token)
    assert not inbox.holds(1, old.token) and inbox.holds(1, 7)
    assert inbox.leases_older_than(0.0) == [(1, 7)]


async def test_when_ends_are_not_written_no_more_jobs_are_taken() -> None:
    inbox = Inbox(slots=1, most=2)
    await takers(inbox, 1)
    inbox.push([job(number) for number in range(12)], asked_at=0.0)
    inbox.drain()
    assert inbox.room() == 0
    inbox.low.clear()
    inbox.ended(0, 1000)
    assert inbox.low.is_set()


async def test_a_closed_inbox_has_no_room() -> None:
    inbox = Inbox(slots=1, most=2)
    await takers(inbox, 1)
    inbox.closed = True
    assert inbox.room() == 0


async def test_jobs_of_a_quiet_queue_pass_those_of_a_flooded_one() -> None:
    inbox = Inbox(slots=2, most=10)
    inbox.push([job(1), job(2)], asked_at=0.0)
    quiet = [job(4, queue="quiet"), job(5, queue="quiet")]
    inbox.push([job(3), *quiet], asked_at=0.0, first=quiet)
    assert [(await inbox.take()).id for _ in range(5)] == [4, 5, 1, 2, 3]
    assert inbox.held == 5


def test_a_lease_that_was_not_extended_in_time_does_not_live() -> None:
    inbox = Inbox(slots=1, most=2, lease=10.0)
    young, old, extended = job(1), job(2), job(3)
    now = monotonic()
    inbox.push([young], asked_at=now)
    inbox.push([old, extended], asked_at=now - 11.0)
    inbox.extended = {(extended.id, extended.token): now - 1.0}
    assert [inbox.lives(one) for one in (young, old, extended)] == [True, False, True]


async def test_every_slot_that_waits_gets_its_job_though_two_are_woken() -> None:
    inbox = Inbox(slots=9, most=100)
    waiting = await takers(inbox, 9)
    inbox.push([job(number) for number in range(1, 8)], asked_at=0.0)
    assert inbox.free_slots == 0, "those that are woken later are spoken for as well"
    done, idle = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 7:
        more, idle = await asyncio.wait(idle, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert more, "jobs wait and slots wait, and nobody is on its way"
        done |= more
    assert {task.result().id for task in done} == set(range(1, 8))
    assert len(idle) == inbox.free_slots == 2
    for task in idle:
        task.cancel()


async def test_a_woken_slot_that_goes_wakes_another() -> None:
    inbox = Inbox(slots=3, most=100)
    waiting = await takers(inbox, 3)
    inbox.push([job(1)], asked_at=0.0)
    waiting[0].cancel()
    done, idle = await asyncio.wait(waiting[1:], timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().id for task in done] == [1]
    for task in idle:
        task.cancel()
