"""Tandem's topics for the benchmark: `publish_many` in a transaction of its own, and a real worker with consumers.

Runs in the checkout's own environment.
"""

import asyncio
from typing import Any

import psycopg

from app.client import Message, aio
from app.config import load_settings
from app.database import migrate
from app.domains.topics import jobs
from app.domains.topics.consumers import Consumer, Handler, Received, add_consumers, queue_name
from app.queue.kinds import Registry
from scripts.bench.peers import messages
from scripts.bench.peers.messages import TOPIC
from scripts.bench.peers.recorder import Payload, Recorder
from workers.supervisor import Supervisor
from workers.sweeper.reconcile import Reconciler

GROUP = "SELECT tandem.create_topic_group(%s, %s, from_position => %s)"
FILL = "SELECT tandem.fill_topic(id, 1000) FROM tandem.topic_fill WHERE finished_at IS NULL"
OPEN_FILLS = "SELECT count(*) FROM tandem.topic_fill WHERE finished_at IS NULL"
UNDONE = """
SELECT (SELECT count(*) FROM tandem.message) * cardinality(%(queues)s::text[])
     - (SELECT count(*) FROM tandem.done AS d JOIN tandem.job AS j ON j.id = d.job_id
        WHERE j.queue = ANY(%(queues)s) AND d.outcome = 'SUCCEEDED')"""


class Client:
    """One connection; each call commits."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def single(self, payload: Payload) -> None:
        """One message, one transaction."""
        await aio.publish(self.connection, TOPIC, payload)

    async def many(self, payloads: list[Payload]) -> None:
        """One call, one transaction."""
        await aio.publish_many(self.connection, TOPIC, [Message(one) for one in payloads])


async def prepare(url: str, spec: dict[str, Any]) -> None:
    """The real migrations, the topic and its groups, whose empty history is delivered."""
    await asyncio.to_thread(migrate.upgrade, url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.create_topic(%s)", [TOPIC])
        for group in [] if spec.get("replay") else messages.group_names(spec):
            connection.execute(GROUP, [TOPIC, group, None])
        while _number(connection, OPEN_FILLS):
            connection.execute(FILL)


async def open_client(url: str, spec: dict[str, Any]) -> Client:
    """A connection of its own."""
    return Client(await psycopg.AsyncConnection.connect(url, autocommit=True))


async def consume(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """A whole worker process with its sweeper, which serves all groups."""

    def handler(group: int) -> Handler:
        async def handle(received: Received[dict[str, Any]]) -> None:
            messages.delivered(record, group, received.body)

        return handle

    consumers = [
        Consumer(TOPIC, name, handler(number)) for number, name in enumerate(messages.group_names(spec))
    ]
    settings = load_settings()
    queues = dict.fromkeys((one.queue for one in consumers), 1)
    registry = Registry()
    add_consumers(registry, consumers)
    own = {"worker": settings.worker.model_copy(update={"queues": queues})}
    # The audit log is left out: it has an entry per HTTP request, and nothing here goes over HTTP.
    steps = [Reconciler(*step) for step in jobs.reconcilers(settings) if step[0] != "audit-seal"]
    supervisor = Supervisor(settings.model_copy(update=own), url, registry, reconcilers=steps)
    running = asyncio.create_task(supervisor.run())
    started = asyncio.create_task(supervisor.started.wait())
    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
    record.ready()
    if spec.get("replay"):
        messages.replaying()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for one in consumers:
                await connection.execute(GROUP, [TOPIC, one.group, 0])
    await running  # SIGTERM drains it
    record.save()


async def remaining(url: str, spec: dict[str, Any]) -> int:
    """Messages for each group, less what is done."""
    queues = [queue_name(TOPIC, group) for group in messages.group_names(spec)]
    with psycopg.connect(url, autocommit=True) as connection:
        return _number(connection, UNDONE, queues=queues)


def _number(connection: psycopg.Connection[Any], query: str, **values: Any) -> int:
    row = connection.execute(query.encode(), values).fetchone()
    return int(row[0]) if row is not None else 0


if __name__ == "__main__":
    messages.main(prepare=prepare, open_client=open_client, consume=consume, remaining=remaining)
