"""Redis Streams' program for the benchmark: XADD, XREADGROUP, XACK with hiredis. Its settings and why: ../README.md."""

import asyncio
import json
from typing import Any

import redis.asyncio

from scripts.bench.peers import messages, recorder
from scripts.bench.peers.messages import TOPIC
from scripts.bench.peers.recorder import Payload, Recorder

MOST = 500
WAIT_MS = 200


class Client:
    """One connection. The server answers after it has flushed."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def single(self, payload: Payload) -> None:
        """One message, flushed when this is back."""
        await self.connection.xadd(TOPIC, {"body": json.dumps(payload)})

    async def many(self, payloads: list[Payload]) -> None:
        """One pipeline."""
        pipeline = self.connection.pipeline(transaction=False)
        for one in payloads:
            pipeline.xadd(TOPIC, {"body": json.dumps(one)})
        await pipeline.execute()


async def prepare(url: str, spec: dict[str, Any]) -> None:
    """The groups; the stream comes with them or with the first message."""
    async with redis.asyncio.from_url(url) as connection:
        for group in [] if spec.get("replay") else messages.group_names(spec):
            await connection.xgroup_create(TOPIC, group, id="0", mkstream=True)


async def open_client(url: str, spec: dict[str, Any]) -> Client:
    """A connection of its own."""
    return Client(redis.asyncio.from_url(url, single_connection_client=True))


async def consume(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """A connection per group that reads up to 500, handles them, and acknowledges them with one command."""
    stop = asyncio.create_task(recorder.until_told())

    async def serve(number: int, group: str) -> None:
        async with redis.asyncio.from_url(url, single_connection_client=True) as connection:
            while not stop.done():
                for _, found in await connection.xreadgroup(
                    group, "c", {TOPIC: ">"}, count=MOST, block=WAIT_MS
                ):
                    for _, fields in found:
                        messages.delivered(record, number, json.loads(fields[b"body"]))
                    await connection.xack(TOPIC, group, *(place for place, _ in found))
                    await asyncio.sleep(0)

    record.ready()
    if spec.get("replay"):
        messages.replaying()
        async with redis.asyncio.from_url(url) as connection:
            for group in messages.group_names(spec):
                await connection.xgroup_create(TOPIC, group, id="0")
    await asyncio.gather(*(serve(number, group) for number, group in enumerate(messages.group_names(spec))))
    record.save()


async def remaining(url: str, spec: dict[str, Any]) -> int:
    """What no consumer has read, or has not acknowledged."""
    async with redis.asyncio.from_url(url) as connection:
        return sum(one["pending"] + one["lag"] for one in await connection.xinfo_groups(TOPIC))


if __name__ == "__main__":
    messages.main(prepare=prepare, open_client=open_client, consume=consume, remaining=remaining)
