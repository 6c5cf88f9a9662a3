"""Awa's program for the benchmark: its Rust runtime with an asyncio handler. Its settings and why: ../README.md."""

from dataclasses import dataclass
from typing import Any

import awa
import uvloop

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder

WORKERS, CLAIM = 1000, 512


@dataclass
class Bench:
    """The one kind of job."""

    n: int
    t: float
    pad: str


class Client:
    """A pool of one connection."""

    def __init__(self, client: Any, queue: str) -> None:
        self.client = client
        self.queue = queue

    async def single(self, payload: Payload) -> None:
        """One job, one transaction."""
        await self.client.insert(Bench(**payload), queue=self.queue)

    async def many(self, payloads: list[Payload]) -> None:
        """COPY into its storage."""
        await self.client.enqueue_many_copy([Bench(**one) for one in payloads], queue=self.queue)


async def setup(url: str) -> None:
    """Its own schema."""
    client = awa.AsyncClient(url)
    await client.migrate()
    # COPY goes to the storage that its releases since 0.6 use.
    await client.install_queue_storage()
    await client.close()


async def produce(url: str, spec: dict[str, Any]) -> None:
    """As the spec says."""

    async def open_client() -> Client:
        return Client(awa.AsyncClient(url, max_connections=1), spec.get("queue", "default"))

    await recorder.produce(spec, open_client)


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """One runtime; each queue may run a thousand jobs at once."""
    client = awa.AsyncClient(url, max_connections=10)

    async def handler(job: Any) -> None:
        record.ran(job.args.n, job.args.t)

    for name in spec["queues"]:
        client.task(Bench, queue=name)(handler)
    await client.start(
        [{"name": name, "max_workers": WORKERS, "claim_batch_size": CLAIM} for name in spec["queues"]]
    )
    record.ready()
    await recorder.until_told()
    await client.shutdown(timeout_ms=10_000)
    record.save()
    await client.close()


if __name__ == "__main__":
    uvloop.install()
    recorder.main(setup=setup, produce=produce, work=work)
