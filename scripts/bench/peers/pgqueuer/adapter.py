"""PgQueuer's program for the benchmark: asyncpg, uvloop, batches of 2,000. Its settings and why: ../README.md."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder


class Client:
    """One connection."""

    def __init__(self, connection: Any, entrypoint: str) -> None:
        self.queries = Queries(AsyncpgDriver(connection))
        self.entrypoint = entrypoint

    async def single(self, payload: Payload) -> None:
        """One job, one transaction."""
        await self.queries.enqueue(self.entrypoint, json.dumps(payload).encode())

    async def many(self, payloads: list[Payload]) -> None:
        """The list form of enqueue."""
        bodies: list[bytes | None] = [json.dumps(one).encode() for one in payloads]
        await self.queries.enqueue([self.entrypoint] * len(bodies), bodies, [0] * len(bodies))


async def setup(url: str) -> None:
    """Its own schema with its default, durable tables."""
    await Queries(AsyncpgDriver(await asyncpg.connect(url))).install()


async def produce(url: str, spec: dict[str, Any]) -> None:
    """As the spec says."""

    async def open_client() -> Client:
        return Client(await asyncpg.connect(url), spec.get("queue", "default"))

    await recorder.produce(spec, open_client)


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """One PgQueuer on one connection, as its documentation starts it."""
    application = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    async def handler(job: Job) -> None:
        body = json.loads(job.payload or b"{}")
        record.ran(body["n"], body["t"])

    for name in spec["queues"]:
        application.entrypoint(name)(handler)
    running = asyncio.create_task(application.run(dequeue_timeout=timedelta(seconds=1), batch_size=2000))
    record.ready()
    stop = asyncio.create_task(recorder.until_told())
    await asyncio.wait([running, stop], return_when=asyncio.FIRST_COMPLETED)
    application.shutdown.set()
    await recorder.ended(running)
    record.save()


if __name__ == "__main__":
    uvloop.install()
    recorder.main(setup=setup, produce=produce, work=work)
