"""Consumers as handlers: typed messages, every message once per group, retries and dead letters per group."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

from app.client import publish
from app.context import present
from app.domains.topics.consumers import Consumer, Received, add_consumers, queue_name
from app.domains.topics.upkeep import fill
from app.queue.kinds import Registry
from tests.support import topics
from tests.support.supervised import supervised
from tests.support.topics import GROUP, TOPIC
from tests.support.waiting import eventually_async
from workers.supervisor import Supervisor
from workers.sweeper.reconcile import Reconciler

OTHER = "analytics-consumer-group"


class Event(BaseModel):
    """A body."""

    n: int


@asynccontextmanager
async def consuming(url: str, *consumers: Consumer) -> AsyncIterator[Supervisor]:
    """A worker that handles these groups, with its sweeper."""
    registry = Registry()
    add_consumers(registry, list(consumers))
    queues = {one.queue: 1 for one in consumers}
    steps = [Reconciler("topic-fills", fill, 0.1)]
    async with supervised(url, registry, sweep=True, queues=queues, reconcilers=steps) as supervisor:
        yield supervisor


async def test_every_group_gets_every_message_typed_with_its_trace(db_url: str) -> None:
    topics.make_topic(db_url, groups=(GROUP, OTHER))
    seen: dict[str, list[Any]] = {GROUP: [], OTHER: []}

    async def handle(received: Received[Event]) -> None:
        assert present()["correlation_id"] == "c-1"
        group = received.job.claimed.queue.rpartition("..")[2]
        seen[group].append((received.body.n, received.envelope.key, received.headers["correlation_id"]))

    consumers = [Consumer(TOPIC, group, handle, message=Event) for group in (GROUP, OTHER)]
    async with consuming(db_url, *consumers):
        with psycopg.connect(db_url) as connection:
            for n in range(20):
                publish(connection, TOPIC, Event(n=n), key="cam", headers={"correlation_id": "c-1"})
        await eventually_async(lambda: all(len(one) == 20 for one in seen.values()))
    for group in (GROUP, OTHER):
        assert sorted(seen[group]) == [(n, "cam", "c-1") for n in range(20)]


async def test_a_failing_group_retries_and_dies_alone(db_url: str) -> None:
    topics.make_topic(db_url, groups=(GROUP, OTHER))
    tries: list[int] = []
    good: list[int] = []

    async def fail(received: Received[Any]) -> None:
        tries.append(received.job.attempt)
        raise ConnectionError("the model is away")

    async def succeed(received: Received[Any]) -> None:
        good.append(received.body["n"])

    failing = Consumer(TOPIC, GROUP, fail, max_attempts=3, retry_delay_ms=10)
    async with consuming(db_url, failing, Consumer(TOPIC, OTHER, succeed)):
        topics.publish(db_url)
        query = "SELECT count(*) AS n FROM tandem.job_status WHERE status = 'DEAD'"
        await eventually_async(lambda: topics.rows(db_url, query)[0].n == 1)
        await eventually_async(lambda: good == [0])
    assert tries == [1, 2, 3]


async def test_a_large_body_and_a_body_of_null_reach_the_handler(db_url: str) -> None:
    topics.make_topic(db_url)
    bodies: list[Any] = []

    async def handle(received: Received[Any]) -> None:
        bodies.append(received.body)

    async with consuming(db_url, Consumer(TOPIC, GROUP, handle, message=Any)):
        with psycopg.connect(db_url) as connection:
            publish(connection, TOPIC, {"frame": "x" * 9_000})
            publish(connection, TOPIC, None)
        await eventually_async(lambda: len(bodies) == 2)
    assert None in bodies
    assert {"frame": "x" * 9_000} in bodies


async def test_a_worker_fills_a_new_group_from_the_beginning(db_url: str) -> None:
    topics.make_topic(db_url, groups=())
    positions = await asyncio.to_thread(topics.publish, db_url, 30)
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("SELECT tandem.create_topic_group(%s, %s, from_position => 0)", (TOPIC, GROUP))
    seen: list[int] = []

    async def handle(received: Received[Any]) -> None:
        seen.append(received.envelope.position)

    async with consuming(db_url, Consumer(TOPIC, GROUP, handle)):
        await eventually_async(lambda: len(seen) == 30)
    assert sorted(seen) == positions


@pytest.mark.parametrize("topic, group", [("a", "b"), ("camera.events", GROUP), ("t" * 40, "g" * 40)])
def test_python_and_sql_name_the_queue_alike(tx: psycopg.Connection[Any], topic: str, group: str) -> None:
    row = tx.execute("SELECT tandem.topic_queue(%s, %s)", (topic, group)).fetchone()
    assert row is not None and row[0] == queue_name(topic, group)
    assert len(row[0]) <= 63
