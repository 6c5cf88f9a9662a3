"""Tandem's program for the benchmark: migrations, producers through every way to enqueue, and a real worker.

Runs in the checkout's own environment.
"""

import asyncio
import json
import os
import time
import uuid
from typing import Any

import psycopg

from app.config import load_settings
from app.queue.enqueue import enqueue, enqueue_async, enqueue_copy_async, enqueue_many_async
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job
from scripts.bench.peers import recorder
from scripts.bench.peers.recorder import Payload, Recorder
from workers.garbage import collect_seldom
from workers.supervisor import Supervisor

KIND = "bench"
KINDS = 100
EVENT_TABLE = (
    "CREATE TABLE public.bench_event (id uuid PRIMARY KEY, created_at timestamptz DEFAULT now(), body jsonb)"
)
EVENT = "INSERT INTO public.bench_event (id, body) VALUES (%s, %s)"
EVENT_AND_JOB = """
    WITH written AS (INSERT INTO public.bench_event (id, body) VALUES (%(id)s, %(body)s) RETURNING id)
    SELECT tandem.enqueue('bench', %(body)s::jsonb, event_id => id) FROM written"""


def kind_name(number: int) -> str:
    """The first kind is the only one, unless a workload asks for many."""
    return f"{KIND}.{number}" if number else KIND


class Blocking:
    """One connection that enqueues one job per transaction, in the way that `variant` names."""

    def __init__(self, url: str, variant: str, queue: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.queue = queue
        self.single = {
            "job": self._job,
            "sql": self._function,
            "event": self._event,
            "event-2": self._event_in_two,
        }[variant]

    def _job(self, payload: Payload) -> None:
        enqueue(self.connection, NewJob(KIND, payload, queue=self.queue))

    def _function(self, payload: Payload) -> None:
        self.connection.execute("SELECT tandem.enqueue('bench', %s::jsonb)", [json.dumps(payload)])

    def _event(self, payload: Payload) -> None:
        self.connection.execute(EVENT_AND_JOB, {"id": uuid.uuid4(), "body": json.dumps(payload)})

    def _event_in_two(self, payload: Payload) -> None:
        event = uuid.uuid4()
        with self.connection.transaction():
            self.connection.execute(EVENT, [event, json.dumps(payload)])
            enqueue(self.connection, NewJob(KIND, payload, queue=self.queue, event_id=event))


class Client:
    """One connection of a coroutine."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], spec: dict[str, Any]) -> None:
        variant = spec.get("variant")
        self.connection = connection
        self.queue = spec.get("queue", "default")
        self.queues, self.kinds, self.keys = spec.get("queues"), spec.get("kinds", 1), spec.get("keys")
        self.send: Any = enqueue_copy_async if variant == "copy" else enqueue_many_async

    async def single(self, payload: Payload) -> None:
        """One job, one transaction."""
        await enqueue_async(self.connection, NewJob(KIND, payload, queue=self.queue))

    async def many(self, payloads: list[Payload]) -> None:
        """One call, one transaction."""
        await self.send(self.connection, [self._job(one) for one in payloads])

    def _job(self, payload: Payload) -> NewJob:
        n = payload["n"]
        queue = f"q{n % self.queues}" if self.queues else self.queue
        key = f"key_{n % self.keys}" if self.keys else None
        return NewJob(kind_name(n % self.kinds), payload, queue=queue, partition_key=key)


async def setup(url: str) -> None:
    """The real migrations."""
    from app.database import migrate  # noqa: PLC0415 - not in a worker's memory

    await asyncio.to_thread(migrate.upgrade, url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(EVENT_TABLE)


def manage(url: str) -> None:
    """Let the default queue be managed: limits and fair shares for each key, none of them ever reached."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT tandem.manage_queue('default', key_limit => 1000)")


async def produce(url: str, spec: dict[str, Any]) -> None:
    """Blocking connections for single jobs, coroutines for everything else."""
    queue = spec.get("queue", "default")
    if spec["mode"] == "single":
        clients = [Blocking(url, spec.get("variant") or "job", queue) for _ in range(spec.get("conns", 1))]
        await asyncio.to_thread(recorder.produce_in_threads, spec, [one.single for one in clients])
        return

    if spec["mode"] == "hold":
        await hold(url, spec)
        return

    async def open_client() -> Client:
        return Client(await psycopg.AsyncConnection.connect(url, autocommit=True), spec)

    await recorder.produce(spec, open_client)


async def hold(url: str, spec: dict[str, Any]) -> None:
    """Connections of a pool that have enqueued, so that their server processes have grown, and idle now."""
    held = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(spec["conns"])]
    for connection in held:
        async with connection.transaction(force_rollback=True):
            await enqueue_async(connection, NewJob(KIND, {"n": 0, "t": 0.0}))
    recorder.say(began=time.time())
    await asyncio.sleep(spec["seconds"])


class Journal:
    """What handlers do, one line for each event, written at once: it outlives a SIGKILL."""

    def __init__(self, path: str | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None

    def note(self, job: Job[Any], event: str) -> None:
        """Add a line."""
        if self._file is not None:
            line = f"{job.claimed.partition_key} {job.id} {event} {time.time():.6f}\n"
            os.write(self._file, line.encode())


async def work(url: str, spec: dict[str, Any], record: Recorder) -> None:
    """A whole worker process with its sweeper; `copies` workers in it stand for those of more hosts."""
    run_ms = spec.get("run_ms", 0)

    journal = Journal(spec.get("journal"))

    async def handler(job: Job[dict[str, Any]]) -> None:
        body = job.payload
        journal.note(job, "start")
        record.ran(body["n"], body["t"], again=job.attempt > 1)
        if run_ms:
            await asyncio.sleep(run_ms / 1000)
        journal.note(job, "end")

    registry = Registry()
    retry = Retrying(own=RetryPolicy(max_attempts=5, delays=(0.1,)))
    for number in range(KINDS):
        registry.add(Kind(kind_name(number), handler, payload=dict, retry=retry))
    settings = load_settings()
    own: dict[str, Any] = {name: spec[name] for name in ("slots", "lease_seconds") if name in spec}
    queues = {
        "worker": settings.worker.model_copy(update={"queues": dict.fromkeys(spec["queues"], 1), **own})
    }
    settings = settings.model_copy(update=queues)
    supervisors = [Supervisor(settings, url, registry) for _ in range(spec.get("copies", 1))]
    collect_seldom()  # as `tandem worker` does
    running = [asyncio.create_task(one.run()) for one in supervisors]
    for one in supervisors:
        started = asyncio.create_task(one.started.wait())
        await asyncio.wait([*running, started], return_when=asyncio.FIRST_COMPLETED)
    record.ready()
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)  # SIGTERM drains the last one
    for one in supervisors:
        one.ask_to_stop()
    await asyncio.gather(*running)
    record.save()


if __name__ == "__main__":
    if os.environ.get("BENCH_UVLOOP"):
        import uvloop

        uvloop.install()
    recorder.main(setup=setup, produce=produce, work=work, manage=manage)
