"""Absurd's program for the benchmark: asyncio workers that claim many at once. Its settings and why: ../README.md."""

import asyncio
import json
import os
from typing import Any

import absurdctl
import psycopg
import uvloop
from absurd_sdk import AsyncAbsurd

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder

# Workers of one process and queue, tasks that one claims at once, and how often an idle one looks.
WORKERS, BATCH, POLL_SECONDS = 4, 500, 0.025
TASK = "bench"
SPAWN = "SELECT task_id FROM absurd.spawn_task(%s, %s, %s::jsonb, %s::jsonb)"


class Client:
    """One connection."""

    def __init__(self, connection: Any, queue: str) -> None:
        self.connection = connection
        self.client = AsyncAbsurd(connection, queue_name=queue)
        self.queue = queue

    async def single(self, payload: Payload) -> None:
        """One task, one transaction."""
        await self.client.spawn(TASK, payload, queue=self.queue)

    async def many(self, payloads: list[Payload]) -> None:
        """It has no bulk API: its function for each, in one transaction and one pipeline."""
        rows = [(self.queue, TASK, json.dumps(one), "{}") for one in payloads]
        async with self.connection.transaction(), self.connection.cursor() as cursor:
            await cursor.executemany(SPAWN, rows)


async def setup(url: str) -> None:
    """The schema that absurdctl ships, and its queues."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(absurdctl.BUNDLED_SCHEMA_SQL.encode())
        for queue in ("default", "busy"):
            await AsyncAbsurd(connection).create_queue(queue)


async def produce(url: str, spec: dict[str, Any]) -> None:
    """As the spec says."""

    async def open_client() -> Client:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        return Client(connection, spec.get("queue", "default"))

    await recorder.produce(spec, open_client)


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """Several workers with a connection each: one connection runs one statement at a time."""

    async def handler(params: Any, _context: Any) -> None:
        record.ran(params["n"], params["t"])

    clients = [AsyncAbsurd(url, queue_name=name) for name in spec["queues"] for _ in range(WORKERS)]
    for client in clients:
        client.register_task(TASK)(handler)
    running = asyncio.gather(
        *(
            client.start_worker(
                worker_id=f"{os.getpid()}-{place}",
                concurrency=BATCH,
                batch_size=BATCH,
                poll_interval=POLL_SECONDS,
            )
            for place, client in enumerate(clients)
        )
    )
    record.ready()
    await recorder.until_told()
    for client in clients:
        client.stop_worker()
    await running
    record.save()


if __name__ == "__main__":
    uvloop.install()
    recorder.main(setup=setup, produce=produce, work=work)
