"""The audit log knows what workers did with deliveries: each end of a try once, whatever ended it, and no other job."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.client import Job, enqueue
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.topics import audit, consuming, service
from app.domains.topics.consumers import Consumer, Received, add_consumers, queue_name
from app.queue.kinds import Kind, Registry
from app.queue.outcomes import Snooze
from app.queue.retry import Retrying, RetryPolicy
from app.queue.store import Finish, Lane, Store, statement
from tests.support import topics
from tests.support.supervised import supervised
from tests.support.topics import GROUP, TOPIC
from tests.support.waiting import eventually_async

QUEUE = queue_name(TOPIC, GROUP)
TOLD = (
    "SELECT id, actor, action, items, detail FROM tandem.audit_entry"
    " WHERE group_name = %s AND action IN ('ack', 'nack', 'dead', 'cancel', 'rescue') ORDER BY id"
)
NOTED = "SELECT count(*) AS n FROM tandem.delivery_end"


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection of the sweeper's kind."""
    async with await connect(db_url, name="test") as opened:
        yield opened


@asynccontextmanager
async def consumed(url: str, *consumers: Consumer, ended: int, **options: Any) -> AsyncIterator[None]:
    """A worker handles these groups; the block ends when so many deliveries have ended for good, and the worker too."""
    query = "SELECT count(*) AS n FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id WHERE j.queue = %s"
    registry = Registry()
    add_consumers(registry, list(consumers))
    queues = {one.queue: 1 for one in consumers}
    async with supervised(url, registry, sweep=True, queues=queues, **options):
        yield
        await eventually_async(lambda: topics.rows(url, query, QUEUE)[0].n == ended)


async def told(
    connection: BoundedAsyncConnection, url: str, folder: Path
) -> dict[str, Counter[tuple[int, int]]]:
    """Seal until nothing is left to be told: for each action how often each (position, attempt) was."""

    async def all_told() -> bool:
        await audit.seal(connection, folder)
        return not topics.rows(url, NOTED)[0].n

    await eventually_async(all_told)
    verdict = await audit.verify(connection, folder)
    assert verdict.good
    found: dict[str, Counter[tuple[int, int]]] = {}
    for row in topics.rows(url, TOLD, GROUP):
        places = [p for first, last in row.detail["positions"] for p in range(first, last + 1)]
        assert row.items == len(places)
        found.setdefault(row.action, Counter()).update((place, row.detail["attempt"]) for place in places)
    return found


async def succeed(received: Received[Any]) -> None:
    """Handles everything."""


async def test_what_handlers_acknowledge_is_told_once_and_tampering_is_found(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    topics.make_topic(db_url)
    positions = [place for size in (1, 30, 7) for place in topics.publish(db_url, size)]
    async with consumed(db_url, Consumer(TOPIC, GROUP, succeed), ended=38):
        pass
    expected = {"ack": Counter({(place, 1): 1 for place in positions})}
    assert await told(connection, db_url, tmp_path) == expected
    assert await told(connection, db_url, tmp_path) == expected
    entry, *_ = topics.rows(db_url, TOLD, GROUP)
    (worker,) = topics.rows(db_url, "SELECT id, name FROM tandem.worker")
    assert (entry.actor, entry.detail["worker"]) == (f"worker:{worker.name}", str(worker.id))
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE tandem.audit_entry SET items = items - 1 WHERE id = %s", (entry.id,))
    verdict = await audit.verify(connection, tmp_path)
    assert (verdict.good, verdict.bad_entry) == (False, entry.id)


@pytest.mark.parametrize("ordered", [False, True], ids=["plain", "ordered"])
async def test_failures_retries_and_dead_letters_are_told(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path, ordered: bool
) -> None:
    topics.make_topic(db_url, groups=())
    await connection.execute(
        "SELECT tandem.create_topic_group(%s, %s, ordered => %s)", (TOPIC, GROUP, ordered)
    )
    topics.fill_all(db_url)
    first, second, third = topics.publish(db_url, 3, key="one")

    async def handle(received: Received[Any]) -> None:
        if received.body["n"] == 2 or (received.body["n"] == 1 and received.job.attempt == 1):
            raise ConnectionError("the model is away")

    async with consumed(db_url, Consumer(TOPIC, GROUP, handle, max_attempts=3, retry_delay_ms=10), ended=3):
        pass
    assert await told(connection, db_url, tmp_path) == {
        "ack": Counter([(first, 1), (second, 2)]),
        "nack": Counter([(second, 1), (third, 1), (third, 2)]),
        "dead": Counter([(third, 3)]),
    }


async def test_an_acknowledgement_is_told_exactly_if_its_transaction_committed(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    topics.make_topic(db_url)
    await connection.execute("CREATE TABLE effect (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    await connection.execute("INSERT INTO effect VALUES (1)")
    (place,) = topics.publish(db_url)

    async def handle(received: Received[Any]) -> None:
        async with received.job.transaction() as tx:  # the first commit is refused, acknowledgement and all
            await tx.connection.execute("INSERT INTO effect VALUES (%s)", (received.job.attempt,))

    async with consumed(db_url, Consumer(TOPIC, GROUP, handle, retry_delay_ms=10), ended=1):
        pass
    found = await told(connection, db_url, tmp_path)
    assert found == {"nack": Counter([(place, 1)]), "ack": Counter([(place, 2)])}


async def test_a_worker_that_does_not_come_back_is_told(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    topics.make_topic(db_url)
    (place,) = topics.publish(db_url)
    gone = uuid4()
    lanes = [Lane(QUEUE, 5, 0, 2**63 - 1)]
    await Store(connection).claim_jobs(lanes, want=1, token=7, worker=gone, lease=timedelta(0))
    async with consumed(db_url, Consumer(TOPIC, GROUP, succeed), ended=1):
        pass
    assert await told(connection, db_url, tmp_path) == {
        "rescue": Counter([(place, 1)]),
        "ack": Counter([(place, 1)]),
    }
    (entry,) = [row for row in topics.rows(db_url, TOLD, GROUP) if row.action == "rescue"]
    assert entry.actor == f"process:{gone}"


async def test_what_a_handler_snoozes_or_its_worker_leaves_is_told_and_what_none_started_is_not(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    topics.make_topic(db_url)
    (place,) = topics.publish(db_url)
    unstarted = await Store(connection).claim_jobs(
        [Lane(QUEUE, 5, 0, 2**63 - 1)], want=1, token=7, worker=uuid4(), lease=timedelta(minutes=1)
    )
    await Store(connection).hand_back_jobs([(unstarted[0].id, 7)], delay=timedelta(0))
    calls = []

    async def handle(received: Received[Any]) -> Any:
        calls.append(received.job.attempt)
        return Snooze(0.01) if len(calls) == 1 else await asyncio.Event().wait()

    registry = Registry()
    add_consumers(registry, [Consumer(TOPIC, GROUP, handle)])
    async with supervised(db_url, registry, sweep=True, queues={QUEUE: 1}, drain_seconds=0.01):
        await eventually_async(lambda: len(calls) == 2)
    assert calls == [1, 1], "the attempt is refunded"

    async def all_told() -> bool:
        await audit.seal(connection, tmp_path)
        return not topics.rows(db_url, NOTED)[0].n

    await eventually_async(all_told)
    entries = topics.rows(db_url, TOLD, GROUP)
    assert {(row.action, row.detail["attempt"], str(row.detail["positions"])) for row in entries} == {
        ("nack", 1, str([[place, place]]))
    }
    assert sum(row.items for row in entries) == 2


async def test_what_programs_consume_over_http_is_not_told_twice(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    topics.make_topic(db_url)
    topics.publish(db_url, 2)
    group = await consuming.find_group(connection, TOPIC, GROUP)
    found = await service.consume(
        connection, group, most=2, lease=timedelta(minutes=1), consumer="shop", actor="ann"
    )
    good, bad = (one.receipt for one in found)
    await service.acknowledge(connection, group, [good], actor="ann")
    await service.give_back(connection, Registry(), group, [bad], delay=0.0, reason="busy", actor="ann")
    assert not topics.rows(db_url, NOTED)[0].n
    entries = topics.rows(db_url, TOLD, GROUP)
    assert [(row.actor, row.action, row.items) for row in entries] == [("ann", "ack", 1), ("ann", "nack", 1)]


async def test_other_queues_write_nothing_and_what_no_group_has_is_not_told(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    """A queue that only looks like a group's is noted, and forgotten when the log is sealed."""

    async def handle(job: Any) -> None:
        if job.payload:
            raise ConnectionError("always")

    registry = Registry()
    registry.add(
        Kind(name="work", handler=handle, payload=bool, retry=Retrying(own=RetryPolicy(2, delays=(0.01,))))
    )
    ended = "SELECT count(*) AS n FROM tandem.done"
    async with supervised(db_url, registry, sweep=True, queues={"default": 1, "topic.nothing": 1}):
        with psycopg.connect(db_url) as producer:
            for fails in (False, True):
                enqueue(producer, Job("work", fails))
        await eventually_async(lambda: topics.rows(db_url, ended)[0].n == 2)
        assert not topics.rows(db_url, NOTED)[0].n
        with psycopg.connect(db_url) as producer:
            enqueue(producer, Job("work", False, queue="topic.nothing"))
        await eventually_async(lambda: topics.rows(db_url, ended)[0].n == 3)
    assert topics.rows(db_url, NOTED)[0].n == 1
    assert await told(connection, db_url, tmp_path) == {}
    assert not topics.rows(db_url, "SELECT FROM tandem.audit_entry")


async def test_a_sweeper_that_was_away_catches_up_in_steps(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ENDS_AT_ONCE", 2)
    topics.make_topic(db_url)
    positions = topics.publish(db_url, 7)
    lanes = [Lane(QUEUE, 5, 0, 2**63 - 1)]
    store = Store(connection)
    for token in range(7):
        (job,) = await store.claim_jobs(
            lanes, want=1, token=token, worker=uuid4(), lease=timedelta(minutes=1)
        )
        assert await store.finish_deliveries([Finish(job.id, token, 1.0)]) == {job.id}
    assert topics.rows(db_url, NOTED)[0].n == 7
    assert await told(connection, db_url, tmp_path) == {
        "ack": Counter({(place, 1): 1 for place in positions})
    }


async def test_a_forged_position_is_told_by_its_job(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    """Whoever may enqueue may write any payload into a group's queue: sealing goes on."""
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as producer:
        made = enqueue(producer, Job("work", {"position": 1e30}, queue=QUEUE))
    store = Store(connection)
    lanes = [Lane(QUEUE, 5, 0, 2**63 - 1)]
    await store.claim_jobs(lanes, want=1, token=1, worker=uuid4(), lease=timedelta(minutes=1))
    await store.finish_deliveries([Finish(made.job_id, 1, 1.0)])

    async def sealed() -> bool:
        return await audit.seal(connection, tmp_path) == 1

    await eventually_async(sealed)
    (entry,) = topics.rows(db_url, TOLD, GROUP)
    assert (entry.items, entry.detail["jobs"]) == (1, [made.job_id])


def test_the_two_statements_that_finish_are_one_but_for_what_is_noted() -> None:
    plain = statement("finish", "finish_jobs").decode()
    noting = statement("finish", "finish_deliveries").decode()
    before, rest = noting.split("), noted AS (")
    assert before + rest[rest.index(")\nINSERT INTO tandem.done") :] == plain
