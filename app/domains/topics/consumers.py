"""Consumers as handlers: a group of a topic whose deliveries a worker handles, with typed messages.

A consumer is a kind of job like any other; the queue's workers run it.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import md5
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from app.context import enter, present
from app.domains.topics import repository
from app.domains.topics.consuming import retry_policy
from app.domains.topics.errors import message_dropped
from app.queue.job import check_name
from app.queue.kinds import Kind, Registry
from app.queue.retry import Retrying
from app.queue.running import Job
from app.queue.sealing import Keyring

Body = TypeVar("Body")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A delivery as it stands in its job: the message's facts, and its body unless that is large."""

    topic: str
    position: int
    message_id: UUID
    key: str | None
    schema_version: int
    published_at: datetime
    headers: dict[str, Any] = field(default_factory=dict)
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Received(Generic[Body]):
    """What a handler gets: the typed body, the message's facts, and the job that delivers it.

    `job.transaction()` makes the handler's effects and the acknowledgement one transaction.
    """

    body: Body
    envelope: Envelope
    job: Job[Envelope]

    @property
    def headers(self) -> Mapping[str, Any]:
        """traceparent, correlation_id and what else the publisher sent along."""
        return self.envelope.headers


Handler = Callable[[Received[Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Consumer:
    """A group of a topic and what handles its messages. Returning acknowledges; raising retries, then a dead letter.

    `message` is the body's type (a pydantic model, a dataclass, dict). The delay before the second try is
    `retry_delay_ms`; it doubles (exponential) or grows by itself (linear).
    """

    topic: str
    group: str
    handler: Handler
    message: Any = dict
    max_attempts: int = 5
    retry_delay_ms: int = 2000
    backoff: Literal["exponential", "linear"] = "exponential"
    ordered: bool = False
    concurrency: int | None = None
    timeout: float = 300.0

    def __post_init__(self) -> None:
        check_name("topic", self.topic)
        check_name("group", self.group)

    @property
    def queue(self) -> str:
        """The queue, and the kind, of the group's deliveries."""
        return queue_name(self.topic, self.group)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Decodes bodies."""
        return TypeAdapter(self.message)


def queue_name(topic: str, group: str) -> str:
    """The same name as tandem.topic_queue(topic, group) gives."""
    plain = f"topic.{topic}..{group}"
    if len(topic) + len(group) <= 55:
        return plain
    return f"{plain[:50]}.{md5(f'{topic}..{group}'.encode(), usedforsecurity=False).hexdigest()[:12]}"


def add_consumers(registry: Registry, consumers: list[Consumer], ring: Keyring | None = None) -> None:
    """Register consumers as kinds; `ring` opens what is encrypted. A worker serves their queues by itself."""
    for one in consumers:
        registry.add(
            Kind(
                name=one.queue,
                handler=_handling(one, ring or Keyring()),
                payload=Envelope,
                timeout=one.timeout,
                concurrency=one.concurrency,
                retry=Retrying(own=retry_policy(one.max_attempts, one.retry_delay_ms, one.backoff)),
            )
        )


def _handling(consumer: Consumer, ring: Keyring) -> Callable[[Job[Envelope]], Awaitable[Any]]:
    async def handle(job: Job[Envelope]) -> Any:
        envelope = job.payload
        body = envelope.payload
        if not _carries_body(job):
            body = await _read_body(job)
        body = ring.unseal(envelope.topic, body)
        typed = consumer.adapter.validate_python(body) if consumer.message is not dict else body
        carried = {name: value for name, value in envelope.headers.items() if isinstance(value, str)}
        enter({**present(), **carried, "topic": envelope.topic, "position": envelope.position})
        return await consumer.handler(Received(typed, envelope, job))

    return handle


def _carries_body(job: Job[Envelope]) -> bool:
    """A body may be null: what counts is whether it is there. Most are small, and then there is nothing to look up."""
    return job.payload.payload is not None or "payload" in json.loads(job.claimed.raw_payload)


async def _read_body(job: Job[Envelope]) -> Any:
    envelope = job.payload
    async with job.connection() as connection:
        found = await repository.read_bodies(connection, envelope.topic, [envelope.position])
    if envelope.position not in found:
        raise message_dropped(envelope.position)
    return json.loads(found[envelope.position])
