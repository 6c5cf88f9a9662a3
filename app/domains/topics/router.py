"""The HTTP face of the topics: paths, status codes, permissions. What happens is in service.py and consuming.py."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

from app.api.access import Access
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep, RegistryDep, SettingsDep
from app.api.openapi import json_body, problems
from app.client.message import Message
from app.domains.topics import consuming, repository, schemas, service
from app.domains.topics.asking import (
    Managing,
    Publishing,
    Reading,
    ReadingDead,
    Replaying,
    RetryingDead,
    TellsStatus,
)
from app.domains.topics.errors import group_unknown, topic_unknown
from app.domains.topics.gate import Gate
from app.domains.topics.presenting import dead_message, group_state, topic_state
from app.domains.topics.tracing import message_headers
from app.errors import InvalidInput
from app.queue.sealing import load_keyring

publish_router = APIRouter(prefix="/api/v1/queue", tags=["topics"], route_class=TellsStatus)
queue_router = APIRouter(prefix="/api/v1/queue", tags=["topics"])
router = APIRouter(prefix="/v1/topics", tags=["topics"])
BODY_LIMIT: Final = 8 * 1024 * 1024
_END: Final = (datetime(9999, 12, 31, tzinfo=UTC), 2**63 - 1)


# --- the three endpoints of the product page -----------------------------------------------------------------


@publish_router.post(
    "/publish",
    summary="Publish a message",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 431, 503, model=schemas.NotPublished),
    openapi_extra=json_body(schemas.Publish),
)
async def publish(
    request: Request, access: AccessDep, settings: SettingsDep, gate: Publishing
) -> schemas.Published:
    """Every group of the topic gets it. With an Idempotency-Key header a repeat answers the first one's id.

    An error has `status` "error" and `error`, beside the members of its problem.
    """
    body = validate(schemas.Publish, await read_json(request, limit=settings.api.body_limit_bytes))
    await gate.enter(body.topic)
    identity = _idempotency_key(request)
    message = Message(
        load_keyring(settings.topics.key_file, settings.topics.keys).seal(body.topic, body.message, identity),
        key=body.key,
        headers=message_headers(_trace(request)),
        dedup_key=identity,
    )
    async with access.write_at_once() as connection:
        [made] = await service.publish(connection, body.topic, [message], actor=gate.actor)
    return schemas.Published(messageId=made.message_id)


@queue_router.get("/status", summary="How the topics stand", responses=problems(403, 404, 422, 503))
async def status(
    access: AccessDep,
    gate: Reading,
    topic: Annotated[str | None, Query(pattern=schemas.NAME, max_length=63)] = None,
) -> list[schemas.TopicStatus]:
    """Lag is the number of unacknowledged messages of the slowest group."""
    await gate.enter(topic)
    async with access.read() as connection:
        found = await service.status(connection, topic)
    return [schemas.TopicStatus.model_validate(one) for one in found]


@queue_router.post(
    "/dlq/retry",
    summary="Send dead letters out again",
    responses=problems(400, 403, 404, 413, 415, 422, 503),
    openapi_extra=json_body(schemas.RetryDead),
)
async def retry_dead(
    request: Request, access: AccessDep, registry: RegistryDep, settings: SettingsDep, gate: RetryingDead
) -> schemas.Retried:
    """The oldest first, at a bounded rate, 1,000 unless told otherwise; repeat the call for more. Safe to repeat."""
    body = validate(schemas.RetryDead, await read_json(request, limit=settings.api.body_limit_bytes))
    await gate.enter(body.topic)
    async with access.write_at_once() as connection:
        retried, errors = await service.retry_dead(
            connection,
            registry,
            body.topic,
            group=body.group,
            most=min(body.maxMessages or service.REDRIVE_AT_ONCE, service.REDRIVE_AT_ONCE),
            actor=gate.actor,
        )
    return schemas.Retried(retried=retried, errors=errors)


# --- topics and groups ---------------------------------------------------------------------------------------


@router.post(
    "",
    summary="Make a topic",
    responses=problems(400, 403, 415, 422, 503),
    openapi_extra=json_body(schemas.MakeTopic),
)
async def create_topic(request: Request, access: AccessDep, gate: Managing) -> schemas.TopicState:
    """One that is there stays as it is, and is answered."""
    body = validate(schemas.MakeTopic, await read_json(request, limit=BODY_LIMIT))
    await gate.enter(body.topic)
    async with access.write_at_once() as connection:
        await service.create_topic(
            connection,
            body.topic,
            actor=gate.actor,
            retention=body.retention_seconds,
            dedup_window=body.dedup_window_seconds,
            drop_unread=body.drop_unread,
            encrypted=body.encrypted,
        )
        return await _topic_state(connection, body.topic)


@router.get("", summary="List topics", responses=problems(403, 503))
async def list_topics(access: AccessDep, gate: Reading) -> list[schemas.TopicState]:
    """With their groups and how far those are behind."""
    await gate.enter(None)
    async with access.read() as connection:
        topics = await repository.list_topics(connection)
        groups = await repository.list_groups(connection)
    return [topic_state(one, [group for group in groups if group["topic"] == one["topic"]]) for one in topics]


@router.get("/dlq/messages", summary="Read dead letters", responses=problems(403, 422, 503))
async def read_dead(
    access: AccessDep,
    gate: ReadingDead,
    topic: Annotated[str | None, Query(pattern=schemas.NAME, max_length=63)] = None,
    group: Annotated[str | None, Query(pattern=schemas.NAME, max_length=63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> schemas.DeadMessages:
    """The latest first, of every topic or of one."""
    await gate.enter(topic)
    async with access.read() as connection:
        found = await repository.list_dead(connection, topic=topic, group=group, before=_END, most=limit)
    return schemas.DeadMessages(messages=[dead_message(row) for row in found])


@router.get("/{topic}", summary="One topic", responses=problems(403, 404, 503))
async def get_topic(topic: str, access: AccessDep, gate: Reading) -> schemas.TopicState:
    """With its groups and how far they are behind."""
    await gate.enter(topic)
    async with access.read() as connection:
        return await _topic_state(connection, topic)


@router.post(
    "/{topic}/messages",
    summary="Publish many messages",
    responses=problems(400, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(schemas.PublishBatch),
)
async def publish_batch(
    topic: str, request: Request, access: AccessDep, settings: SettingsDep, gate: Publishing
) -> schemas.PublishedBatch:
    """Up to 1,000, all or none of them."""
    body = validate(schemas.PublishBatch, await read_json(request, limit=BODY_LIMIT))
    await gate.enter(topic)
    headers, ring = (
        message_headers(_trace(request)),
        load_keyring(settings.topics.key_file, settings.topics.keys),
    )
    messages = [
        Message(
            ring.seal(topic, one.message, one.dedup_key or (str(one.message_id) if one.message_id else None)),
            one.key,
            headers,
            one.message_id,
            one.dedup_key,
            one.schema_version,
        )
        for one in body.messages
    ]
    async with access.write_at_once() as connection:
        made = await service.publish(connection, topic, messages, actor=gate.actor)
    return schemas.PublishedBatch(
        messages=[
            schemas.PublishedMessage(message_id=one.message_id, position=one.position, created=one.created)
            for one in made
        ]
    )


@router.post(
    "/{topic}/groups",
    summary="Make a consumer group",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.MakeGroup),
)
async def create_group(topic: str, request: Request, access: AccessDep, gate: Managing) -> schemas.GroupState:
    """It starts at the beginning, now, at a time or at a position; one that is there stays as it is."""
    body = validate(schemas.MakeGroup, await read_json(request, limit=BODY_LIMIT))
    await gate.enter(topic)
    async with access.write_at_once() as connection:
        await service.create_group(
            connection,
            topic,
            body.group,
            body.start,
            actor=gate.actor,
            max_attempts=body.max_attempts,
            retry_delay_ms=body.retry_delay_ms,
            backoff=body.backoff,
            ordered=body.ordered,
            dead_head=body.dead_head,
        )
        return await _group_state(connection, topic, body.group)


@router.get("/{topic}/groups/{group}", summary="One group with its lag", responses=problems(403, 404, 503))
async def get_group(topic: str, group: str, access: AccessDep, gate: Reading) -> schemas.GroupState:
    """What waits, what runs, what is dead, who consumes."""
    await gate.enter(topic)
    async with access.read() as connection:
        return await _group_state(connection, topic, group)


@router.post("/{topic}/groups/{group}/pause", summary="Pause a group", responses=problems(403, 404, 503))
async def pause_group(topic: str, group: str, access: AccessDep, gate: Managing) -> schemas.GroupState:
    """It gets nothing more; what is published waits for it."""
    return await _pause(topic, group, access, gate, paused=True)


@router.post("/{topic}/groups/{group}/resume", summary="Resume a group", responses=problems(403, 404, 503))
async def resume_group(topic: str, group: str, access: AccessDep, gate: Managing) -> schemas.GroupState:
    """It gets what has waited."""
    return await _pause(topic, group, access, gate, paused=False)


@router.post(
    "/{topic}/groups/{group}/order",
    summary="Change a group's order",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Order),
)
async def order_group(
    topic: str, group: str, request: Request, access: AccessDep, gate: Managing
) -> schemas.GroupState:
    """One message of a key at a time, in order, or no order. What waits follows before the answer."""
    body = validate(schemas.Order, await read_json(request, limit=BODY_LIMIT))
    await gate.enter(topic)
    async with access.write_at_once() as connection:
        found = await consuming.find_group(connection, topic, group)
        await service.order(
            connection, found, actor=gate.actor, ordered=body.ordered, dead_head=body.dead_head
        )
        return await _group_state(connection, topic, group)


@router.post(
    "/{topic}/groups/{group}/replay",
    status_code=202,
    summary="Deliver again",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Seek),
)
async def replay(
    topic: str, group: str, request: Request, access: AccessDep, gate: Replaying
) -> schemas.Replay:
    """To this group alone, from a position or a time on; with `keep_waiting` false like moving an offset."""
    body = validate(schemas.Seek, await read_json(request, limit=BODY_LIMIT))
    await gate.enter(topic)
    async with access.write_at_once() as connection:
        found = await consuming.find_group(connection, topic, group)
        made = await service.replay(
            connection,
            found,
            body.start,
            last=body.until_position,
            keep_waiting=body.keep_waiting,
            actor=gate.actor,
        )
    return schemas.Replay.model_validate(made)


# --- shapes --------------------------------------------------------------------------------------------------


async def _pause(topic: str, group: str, access: Access, gate: Gate, *, paused: bool) -> schemas.GroupState:
    await gate.enter(topic)
    async with access.write_at_once() as connection:
        found = await consuming.find_group(connection, topic, group)
        await service.pause(connection, found, actor=gate.actor, paused=paused)
        return await _group_state(connection, topic, group)


def _trace(request: Request) -> dict[str, str]:
    headers = request.headers
    return {
        "traceparent": headers.get("traceparent", ""),
        "correlation_id": headers.get("x-correlation-id", ""),
    }


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidInput(
            "invalid-idempotency-key", "an Idempotency-Key has 1 to 255 printable ASCII characters"
        )
    return key


async def _topic_state(connection: repository.Connection, topic: str) -> schemas.TopicState:
    found = await repository.list_topics(connection, topic=topic)
    if not found:
        raise topic_unknown()
    return topic_state(found[0], await repository.list_groups(connection, topic=topic))


async def _group_state(connection: repository.Connection, topic: str, group: str) -> schemas.GroupState:
    found = await repository.list_groups(connection, topic=topic, group=group)
    if not found:
        raise group_unknown()
    return group_state(found[0])
