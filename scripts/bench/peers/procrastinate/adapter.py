"""Procrastinate's program for the benchmark: one worker of concurrency 100. Its settings and why: ../README.md."""

import asyncio
from typing import Any

import procrastinate

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder


class Client:
    """One connection."""

    def __init__(self, task: Any) -> None:
        self.task = task

    async def single(self, payload: Payload) -> None:
        """One job, one transaction."""
        await self.task.defer_async(**payload)

    async def many(self, payloads: list[Payload]) -> None:
        """Its bulk API."""
        await self.task.batch_defer_async(*payloads)


def application(url: str, **pool: Any) -> procrastinate.App:
    """An app on a pool of its own."""
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, **pool))


async def setup(url: str) -> None:
    """Its own schema."""
    async with application(url).open_async() as app:
        await app.schema_manager.apply_schema_async()


async def produce(url: str, spec: dict[str, Any]) -> None:
    """As the spec says; each client has a pool of one connection."""

    async def open_client() -> Client:
        app = application(url, min_size=1, max_size=1)
        await app.open_async()
        return Client(app.configure_task("bench", queue=spec.get("queue", "default")))

    await recorder.produce(spec, open_client)


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """One worker; finished jobs are deleted."""
    app = application(url, min_size=4, max_size=20)

    async def bench(n: int, t: float, pad: str) -> None:
        record.ran(n, t)

    app.task(name="bench", retry=procrastinate.RetryStrategy(max_attempts=5, wait=0))(bench)

    async with app.open_async():
        running = asyncio.create_task(
            app.run_worker_async(
                queues=spec["queues"],
                concurrency=100,
                wait=True,
                delete_jobs="successful",
                install_signal_handlers=False,
                shutdown_graceful_timeout=5,
                fetch_job_polling_interval=1.0,
            )
        )
        record.ready()
        stop = asyncio.create_task(recorder.until_told())
        await asyncio.wait([running, stop], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await recorder.ended(running)
    record.save()


if __name__ == "__main__":
    recorder.main(setup=setup, produce=produce, work=work)
