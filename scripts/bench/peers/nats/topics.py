"""NATS JetStream's program for the benchmark: a file stream, confirmed publish, explicit ack. Why: ../README.md."""

import asyncio
import json
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from scripts.bench.peers import messages, recorder
from scripts.bench.peers.messages import TOPIC
from scripts.bench.peers.recorder import Payload, Recorder

UNACKNOWLEDGED = 2_000


class Client:
    """One connection."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def single(self, payload: Payload) -> None:
        """One message, confirmed."""
        await self.stream.publish(TOPIC, json.dumps(payload).encode())

    async def many(self, payloads: list[Payload]) -> None:
        """All sent at once; back when each is confirmed."""
        await asyncio.gather(
            *[await self.stream.publish_async(TOPIC, json.dumps(one).encode()) for one in payloads]
        )


async def prepare(url: str, spec: dict[str, Any]) -> None:
    """A stream in files, and a durable consumer per group."""
    connection = await nats.connect(url)
    stream = connection.jetstream()
    await stream.add_stream(StreamConfig(name=TOPIC, subjects=[TOPIC], storage=StorageType.FILE))
    if not spec.get("replay"):
        for group in messages.group_names(spec):
            await stream.add_consumer(TOPIC, _consumer(group))
    await connection.close()


def _consumer(group: str) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=group,
        deliver_subject=f"deliver.{group}",
        deliver_group=group,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        max_ack_pending=UNACKNOWLEDGED,
    )


async def open_client(url: str, spec: dict[str, Any]) -> Client:
    """A connection of its own, with as many confirmations outstanding as a batch has messages."""
    connection = await nats.connect(url)
    return Client(connection.jetstream(publish_async_max_pending=spec["batch"]))


async def consume(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """A push consumer per group: the server sends without being asked."""
    connection = await nats.connect(url)
    stream = connection.jetstream()

    def handler(group: int) -> Any:
        async def handle(message: Any) -> None:
            messages.delivered(record, group, json.loads(message.data))
            await message.ack()

        return handle

    if spec.get("replay"):
        record.ready()
        messages.replaying()
        for group in messages.group_names(spec):
            await stream.add_consumer(TOPIC, _consumer(group))
    for number, group in enumerate(messages.group_names(spec)):
        await stream.subscribe_bind(
            stream=TOPIC,
            config=_consumer(group),
            consumer=group,
            cb=handler(number),
            manual_ack=True,
        )
    await connection.flush()
    if not spec.get("replay"):
        record.ready()
    await recorder.until_told()
    await connection.drain()
    record.save()


async def remaining(url: str, spec: dict[str, Any]) -> int:
    """What no consumer has been given, or has not acknowledged."""
    connection = await nats.connect(url)
    stream = connection.jetstream()
    left = 0
    for group in messages.group_names(spec):
        found = await stream.consumer_info(TOPIC, group)
        left += (found.num_pending or 0) + (found.num_ack_pending or 0)
    await connection.close()
    return left


if __name__ == "__main__":
    messages.main(prepare=prepare, open_client=open_client, consume=consume, remaining=remaining)
