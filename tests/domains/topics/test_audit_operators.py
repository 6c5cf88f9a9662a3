"""The audit log knows what operators do with deliveries by the general commands and paths, and of no other job."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.client import Job, enqueue
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.topics import audit, service
from app.domains.topics.consumers import queue_name
from app.queue import admin
from app.queue.dead_letters import purge_dead_letters
from app.queue.kinds import Change, Kind, Registry
from app.queue.settle import FailedJob, settle
from app.queue.store import Failed, Lane, Store
from tests.support import topics
from tests.support.command_line import facts
from tests.support.conversations import serving
from tests.support.topics import GROUP, TOPIC
from tests.support.waiting import eventually_async

QUEUE = queue_name(TOPIC, GROUP)
ENTRIES = "SELECT id, actor, action, topic, group_name, items, detail FROM tandem.audit_entry ORDER BY id"
JOBS = "SELECT id FROM tandem.job WHERE queue = %s ORDER BY id"
OTHER = "default"


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection of the operators' kind."""
    async with await connect(db_url, name="test") as opened:
        yield opened


def deliver(url: str, count: int, topic: str = TOPIC) -> tuple[list[int], list[int]]:
    """A topic with one group and so many waiting deliveries: their jobs and positions."""
    topics.make_topic(url, topic)
    positions = topics.publish(url, count, topic)
    return [row.id for row in topics.rows(url, JOBS, queue_name(topic, GROUP))], positions


async def start(connection: BoundedAsyncConnection, *queues: str) -> list[tuple[int, int, str]]:
    """Claim all that is ready there: (job, token, kind)."""
    lanes = [Lane(queue, 5, 0, 2**63 - 1) for queue in queues]
    found = await Store(connection).claim_jobs(
        lanes, want=50, token=7, worker=uuid4(), lease=timedelta(minutes=1)
    )
    return [(one.id, 7, one.kind) for one in found]


async def kill(url: str, *queues: str) -> None:
    """Make dead letters of all that is ready there."""
    async with await connect(url, name="kill") as connection:
        dead = [
            FailedJob(kind, None, Failed(job, token, 1.0, "permanent", "broken", outcome="DEAD"))
            for job, token, kind in await start(connection, *queues)
        ]
        await settle(connection, Registry(), dead, note=False)


def noted(url: str) -> list[tuple[Any, ...]]:
    """(actor, action, items, jobs, positions) of each entry, the first one first."""
    found = topics.rows(url, ENTRIES)
    assert {(row.topic, row.group_name) for row in found} <= {(TOPIC, GROUP)}
    return [
        (row.actor, row.action, row.items, row.detail.get("jobs"), row.detail.get("positions"))
        for row in found
    ]


def run_of(numbers: list[int]) -> list[list[int]]:
    """One run, as the numbers of one batch are."""
    return [[numbers[0], numbers[-1]]]


# --- the ways ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["redrive", "purge"])
def test_dead_letters_that_the_general_commands_redrive_or_purge_are_told(
    db_url: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", db_url)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    jobs, positions = deliver(db_url, 4)
    asyncio.run(kill(db_url, QUEUE))
    facts("dlq", command, str(jobs[0]), "--yes")
    facts("dlq", command, "--queue", QUEUE, "--limit", "2", "--yes")
    expected: list[tuple[Any, ...]] = [
        ("ann", command, 1, run_of(jobs[:1]), run_of(positions[:1])),
        ("ann", command, 2, run_of(jobs[1:3]), run_of(positions[1:3])),
    ]
    assert noted(db_url) == expected
    if command == "redrive":
        facts("jobs", "retry", str(jobs[3]))
        assert noted(db_url)[2:] == [("ann", "redrive", 1, run_of(jobs[3:]), run_of(positions[3:]))]


async def test_what_is_cancelled_or_retried_over_http_is_told(
    connection: BoundedAsyncConnection, db_url: str
) -> None:
    jobs, positions = deliver(db_url, 1)
    await kill(db_url, QUEUE)
    async with serving(db_url) as api:
        assert (await api.post(f"/v1/jobs/{jobs[0]}/retry")).status_code == 202
        for status in (200, 200):  # the second finds nothing to do
            response = await api.post(f"/v1/jobs/{jobs[0]}/cancel", json={"reason": "a test frame"})
            assert response.status_code == status
        place = (1, run_of(jobs), run_of(positions))
        assert noted(db_url) == [("api", "redrive", *place), ("api", "cancel", *place)]
        assert topics.rows(db_url, ENTRIES)[-1].detail["reason"] == "a test frame"
        topics.publish(db_url)
        [(running, *_)] = await start(connection, QUEUE)
        for _ in range(2):
            assert (await api.post(f"/v1/jobs/{running}/cancel")).status_code == 202
    assert [one[:4] for one in noted(db_url)[2:]] == [("api", "request-cancel", 1, run_of([running]))]


async def test_a_cancel_that_the_sweeper_carries_out_is_told_with_who_asked(
    connection: BoundedAsyncConnection, db_url: str
) -> None:
    (job,), _ = deliver(db_url, 1)

    async def hook(connection: Any, change: Change) -> None:
        """Known to the sweeper alone."""

    known = Registry()
    known.add(Kind(name=QUEUE, handler=hook, hook=hook))
    await Store(connection).declare_kinds([(QUEUE, 4, 3, True)])
    assert await admin.cancel_job(connection, Registry(), job, by="ann", reason="twice") == "REQUESTED"
    assert await admin.settle_cancels(connection, known) == 1
    assert [one[:2] for one in noted(db_url)] == [("ann", "request-cancel"), ("ann", "cancel")]
    assert [row.detail["reason"] for row in topics.rows(db_url, ENTRIES)] == ["twice", "twice"]


async def test_a_redrive_of_a_topic_is_told_once_and_the_chain_holds_it(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    jobs, positions = deliver(db_url, 3)
    await kill(db_url, QUEUE)
    assert await service.retry_dead(
        connection, Registry(), TOPIC, group=None, most=None, actor="ann", rate=None
    ) == (3, 0)
    assert noted(db_url) == [("ann", "redrive", 3, run_of(jobs), run_of(positions))]

    async def sealed() -> bool:
        await audit.seal(connection, tmp_path)
        return (await audit.verify(connection, tmp_path)).sealed == 2  # the publish, too

    await eventually_async(sealed)
    assert (await audit.verify(connection, tmp_path)).good


# --- what is not told --------------------------------------------------------------------------------------------


async def test_other_queues_are_not_told_and_cost_no_statement(
    connection: BoundedAsyncConnection, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as producer:
        dead, purged, cancelled = (enqueue(producer, Job("work", n)).job_id for n in range(3))
        enqueue(producer, Job("work", 3, queue="topic.nothing"))  # looks like a group's, and is none
    assert await admin.cancel_job(connection, Registry(), cancelled, by="ann") == "CANCELLED"
    await kill(db_url, OTHER, "topic.nothing")
    asked = []
    monkeypatch.setattr("app.queue.admin_store.AdminStore.note_deliveries", lambda *args: asked.append(args))
    await admin.redrive_job(connection, Registry(), dead, by="ann")
    assert await purge_dead_letters(connection, job_ids=[purged], by="ann") == 1
    assert not asked
    monkeypatch.undo()
    assert len((await admin.redrive_jobs(connection, Registry(), by="ann")).jobs) == 1
    assert not topics.rows(db_url, ENTRIES)


async def test_what_is_rolled_back_is_not_told(connection: BoundedAsyncConnection, db_url: str) -> None:
    jobs, _ = deliver(db_url, 2)
    await kill(db_url, QUEUE)

    async def hook(connection: Any, change: Change) -> None:
        if change.job_id == jobs[0]:
            raise ValueError("not this one")

    registry = Registry()
    registry.add(Kind(name=QUEUE, handler=hook, hook=hook))
    report = await admin.redrive_jobs(connection, registry, by="ann")
    assert (report.jobs, list(report.failed)) == (jobs[1:], jobs[:1])
    assert [one[:4] for one in noted(db_url)] == [("ann", "redrive", 1, run_of(jobs[1:]))]


async def test_a_batch_over_several_groups_is_one_entry_for_each(
    connection: BoundedAsyncConnection, db_url: str
) -> None:
    for topic in ("one", "two"):
        deliver(db_url, 2, topic)
    await kill(db_url, queue_name("one", GROUP), queue_name("two", GROUP))
    assert await purge_dead_letters(connection) == 4
    assert [(row.topic, row.actor, row.items) for row in topics.rows(db_url, ENTRIES)] == [
        ("one", "unknown", 2),
        ("two", "unknown", 2),
    ]
