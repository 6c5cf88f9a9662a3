"""Celery's program for the benchmark: tasks on Redis, acknowledged late. Its settings and why: ../README.md."""

import contextlib
from typing import Any

from celery import Celery
from celery.apps.worker import Worker
from celery.signals import worker_ready

from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder

# Threads share a flush of the server; each may have so many tasks waiting.
THREADS, PREFETCH = 10, 10
TASK = "bench"


def bench(n: int, t: float, pad: str) -> None:
    """What a producer knows of the task."""


class Client:
    """One connection."""

    def __init__(self, app: Celery, queue: str) -> None:
        self.task = app.task(name=TASK)(bench)
        self.producer = app.amqp.Producer(app.connection_for_write())
        self.queue = queue

    def put(self, payload: Payload) -> None:
        """One task; the server has flushed it when this is back."""
        self.task.apply_async(kwargs=payload, queue=self.queue, producer=self.producer)

    async def single(self, payload: Payload) -> None:
        """The same for a producer in step."""
        self.put(payload)

    async def many(self, payloads: list[Payload]) -> None:
        """Kombu's batch: one pipeline."""
        with self.producer.batch(max_size=len(payloads)):
            for one in payloads:
                self.put(one)


def application(url: str) -> Celery:
    """An app that keeps no results."""
    app = Celery("bench", broker=url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_default_queue="default",
        worker_prefetch_multiplier=PREFETCH,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,  # the driver reads it
    )
    return app


async def setup(url: str) -> None:
    """Nothing: queues come with the first message."""


async def produce(url: str, spec: dict[str, Any]) -> None:
    """As the spec says; its client blocks, so connections side by side are threads."""
    app, queue = application(url), spec.get("queue", "default")
    if spec["mode"] == "single":
        clients = [Client(app, queue) for _ in range(spec.get("conns", 1))]
        recorder.produce_in_threads(spec, [one.put for one in clients])
        return

    async def open_client() -> Client:
        return Client(app, queue)

    await recorder.produce(spec, open_client)


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """One worker that runs tasks in threads; it blocks here until SIGTERM, which it hears itself."""
    app = application(url)

    def noted(n: int, t: float, pad: str) -> None:
        record.ran(n, t)

    def ready(**_: Any) -> None:
        record.ready()

    app.task(name=TASK)(noted)
    worker_ready.connect(ready)
    worker = Worker(
        app=app,
        pool="threads",
        concurrency=THREADS,
        queues=spec["queues"],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="ERROR",
        quiet=True,
    )
    with contextlib.suppress(SystemExit):
        worker.start()
    record.save()


if __name__ == "__main__":
    recorder.main(setup=setup, produce=produce, work=work)
