"""RabbitMQ's program for the benchmark: quorum queues, publisher confirms, manual ack. Settings: ../README.md.

A replay reads a stream queue, because quorum queues keep nothing that was acknowledged.
"""

import asyncio
import json
from typing import Any

import aio_pika
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

from scripts.bench.peers import messages, recorder
from scripts.bench.peers.messages import TOPIC
from scripts.bench.peers.recorder import Payload, Recorder

UNACKNOWLEDGED = 1_000
STREAM = "stream"


class Client:
    """One channel on one connection."""

    def __init__(self, exchange: AbstractExchange) -> None:
        self.exchange = exchange

    async def single(self, payload: Payload) -> None:
        """One persistent message, confirmed."""
        body = json.dumps(payload).encode()
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self.exchange.publish(message, "")

    async def many(self, payloads: list[Payload]) -> None:
        """All sent at once; back when each is confirmed."""
        await asyncio.gather(*(self.single(one) for one in payloads))


def _queues(spec: dict[str, Any]) -> dict[str, str]:
    """Name and type of every queue: one per group, or the stream that all groups read."""
    if spec.get("replay"):
        return {STREAM: "stream"}
    return dict.fromkeys(messages.group_names(spec), "quorum")


async def prepare(url: str, spec: dict[str, Any]) -> None:
    """A durable exchange that copies every message into each durable queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(TOPIC, aio_pika.ExchangeType.FANOUT, durable=True)
        for name, kind in _queues(spec).items():
            queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": kind})
            await queue.bind(exchange)


async def open_client(url: str, spec: dict[str, Any]) -> Client:
    """A connection of its own, with confirms."""
    channel = await (await aio_pika.connect(url)).channel(publisher_confirms=True)
    return Client(await channel.get_exchange(TOPIC, ensure=False))


async def consume(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """A channel per group; every message is acknowledged by itself once it is handled."""
    connection = await aio_pika.connect(url)

    def handler(group: int) -> Any:
        async def handle(message: AbstractIncomingMessage) -> None:
            messages.delivered(record, group, json.loads(message.body))
            await message.ack()

        return handle

    replay = spec.get("replay")
    record.ready()
    if replay:
        messages.replaying()
    for number, group in enumerate(messages.group_names(spec)):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=UNACKNOWLEDGED)
        queue = await channel.get_queue(STREAM if replay else group, ensure=False)
        await queue.consume(handler(number), arguments={"x-stream-offset": "first"} if replay else None)
    await recorder.until_told()
    await connection.close()
    record.save()


async def remaining(url: str, spec: dict[str, Any]) -> int:
    """What is in the queues; unacknowledged messages are back there since the consumers left. A stream keeps all."""
    if spec.get("replay"):
        return 0
    async with await aio_pika.connect(url) as connection:
        left = 0
        for name in _queues(spec):
            channel = await connection.channel()
            queue = await channel.declare_queue(name, passive=True)
            left += queue.declaration_result.message_count or 0
        return left


if __name__ == "__main__":
    messages.main(prepare=prepare, open_client=open_client, consume=consume, remaining=remaining)
