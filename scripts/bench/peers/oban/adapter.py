"""Oban's program for the benchmark: one worker, uvloop. Its settings and why: ../README.md."""

import asyncio
from typing import Any

import oban
import uvloop
from oban import Oban
from oban.schema import install

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder

CONCURRENCY = 200
_running: dict[str, Recorder] = {}


@oban.worker(queue="default", max_attempts=5)
class Bench:
    """The one kind of job."""

    async def process(self, job: Any) -> None:
        """A no-op that is noted."""
        body = job.args
        _running["record"].ran(body["n"], body["t"])

    def backoff(self, _job: Any) -> int:
        """Retries at once."""
        return 1


class Client:
    """One connection."""

    def __init__(self, instance: Oban, queue: str) -> None:
        self.oban = instance
        self.queue = queue

    async def single(self, payload: Payload) -> None:
        """One job, one transaction."""
        await self.oban.enqueue(Bench.new(payload, queue=self.queue))  # type: ignore[attr-defined]

    async def many(self, payloads: list[Payload]) -> None:
        """Its bulk API."""
        await self.oban.enqueue_many([Bench.new(one, queue=self.queue) for one in payloads])  # type: ignore[attr-defined]


async def setup(url: str) -> None:
    """Its own schema."""
    pool = await Oban.create_pool(url)
    await install(pool)
    await pool.close()


async def produce(url: str, spec: dict[str, Any]) -> None:
    """As the spec says; each client has a pool of one connection."""
    pools = []

    async def open_client() -> Client:
        pools.append(await Oban.create_pool(url, min_size=1, max_size=1))
        return Client(Oban(pool=pools[-1], name=f"producer-{len(pools)}"), spec.get("queue", "default"))

    await recorder.produce(spec, open_client)
    for pool in pools:
        await pool.close()


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """One worker with its leader and stager."""
    _running["record"] = record
    pool = await Oban.create_pool(url, min_size=4, max_size=10)
    queues: dict[str, Any] = dict.fromkeys(spec["queues"], CONCURRENCY)
    async with Oban(pool=pool, queues=queues, shutdown_grace_period=10.0):
        record.ready()
        await recorder.until_told()
    record.save()
    await asyncio.wait_for(pool.close(), 5)


if __name__ == "__main__":
    uvloop.install()
    recorder.main(setup=setup, produce=produce, work=work)
