"""The HTTP face of the topics: paths, status codes, permissions. What happens is in service.py and consuming.py."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api import problems as answers
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep, RegistryDep, SettingsDep
from app.api.openapi import json_body, problems
from app.client.message import Message
from app.domains.topics import consuming, repository, schemas, service
from app.domains.topics.errors import group_unknown, topic_unknown
from app.domains.topics.gate import Gate
from app.domains.topics.permissions import Operation, Principal, Role
from app.domains.topics.repository import Row
from app.domains.topics.tracing import message_headers
from app.errors import AppError, InvalidInput

queue_router = APIRouter(prefix="/api/v1/queue", tags=["topics"])
router = APIRouter(prefix="/v1/topics", tags=["topics"])
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks of a long poll: a waiting consumer holds no connection meanwhile."""
BODY_LIMIT: Final = 8 * 1024 * 1024
_END: Final = (datetime(9999, 12, 31, tzinfo=UTC), 2**63 - 1)


async def principal_of(request: Request) -> Principal:
    """Who calls. The authentication of the edge puts the principal there; without one the API is open, as configured."""
    found = getattr(request.state, "principal", None)
    if found is None:
        return Principal("api", Role.ADMIN)
    return Principal(str(found.name), Role(str(found.role)))


async def get_gate(
    access: AccessDep, principal: Annotated[Principal, Depends(principal_of)]
) -> Gate:
    """What asks for permission and writes down denials."""
    return Gate(access.write_at_once, principal)


GateDep = Annotated[Gate, Depends(get_gate)]


# --- the three endpoints of the product page -----------------------------------------------------------------


@queue_router.post(
    "/publish",
    summary="Publish a message",
    response_model=schemas.Published,
    responses=problems(400, 403, 404, 413, 415, 422, 503),
    openapi_extra=json_body(schemas.Publish),
)
async def publish(request: Request, access: AccessDep, settings: SettingsDep, gate: GateDep) -> Any:
    """Every group of the topic gets it. With an Idempotency-Key header a repeat answers the first one's id.

    An error has `status` "error" and `error`, beside the members of its problem.
    """
    try:
        body = validate(schemas.Publish, await read_json(request, limit=settings.api.body_limit_bytes))
        await gate.ask(Operation.PUBLISH, body.topic)
        message = service.new_message(
            body.message,
            message_headers(_trace(request)),
            key=body.key,
            dedup_key=_idempotency_key(request),
        )
        async with access.write_at_once() as connection:
            [made] = await service.publish(connection, body.topic, [message], actor=gate.principal.name)
    except AppError as error:
        return _told(error)
    return schemas.Published(messageId=made.message_id)


@queue_router.get("/status", summary="How the topics stand", responses=problems(403, 404, 422, 503))
async def status(
    access: AccessDep,
    gate: GateDep,
    topic: Annotated[str | None, Query(pattern=schemas.NAME, max_length=63)] = None,
) -> list[schemas.TopicStatus]:
    """Lag is the number of unacknowledged messages of the slowest group."""
    await gate.ask(Operation.MONITOR, topic)
    async with access.read_directly() as connection:
        found = await service.status(connection, topic)
    return [schemas.TopicStatus.model_validate(one) for one in found]


@queue_router.post(
    "/dlq/retry",
    summary="Send dead letters out again",
    responses=problems(400, 403, 404, 413, 415, 422, 503),
    openapi_extra=json_body(schemas.RetryDead),
)
async def retry_dead(
    request: Request, access: AccessDep, registry: RegistryDep, settings: SettingsDep, gate: GateDep
) -> schemas.Retried:
    """The oldest first, at a bounded rate, 1,000 unless told otherwise; repeat the call for more. Safe to repeat."""
    body = validate(schemas.RetryDead, await read_json(request, limit=settings.api.body_limit_bytes))
    await gate.ask(Operation.RETRY_DEAD, body.topic)
    async with access.write_at_once() as connection:
        retried, errors = await service.retry_dead(
            connection,
            registry,
            body.topic,
            group=body.group,
            most=min(body.maxMessages or service.REDRIVE_AT_ONCE, service.REDRIVE_AT_ONCE),
            actor=gate.principal.name,
        )
    return schemas.Retried(retried=retried, errors=errors)


# --- topics and groups ---------------------------------------------------------------------------------------


@router.post(
    "",
    summary="Make a topic",
    responses=problems(400, 403, 415, 422, 503),
    openapi_extra=json_body(schemas.MakeTopic),
)
async def create_topic(request: Request, access: AccessDep, gate: GateDep) -> schemas.TopicState:
    """One that is there stays as it is, and is answered."""
    body = validate(schemas.MakeTopic, await read_json(request, limit=BODY_LIMIT))
    await gate.ask(Operation.MANAGE, body.topic)
    async with access.write_at_once() as connection:
        await service.create_topic(
            connection,
            body.topic,
            actor=gate.principal.name,
            retention=body.retention_seconds,
            dedup_window=body.dedup_window_seconds,
            drop_unread=body.drop_unread,
            encrypted=body.encrypted,
        )
        return await _topic_state(connection, body.topic)


@router.get("", summary="List topics", responses=problems(403, 503))
async def list_topics(access: AccessDep, gate: GateDep) -> list[schemas.TopicState]:
    """With their groups and how far those are behind."""
    await gate.ask(Operation.MONITOR, None)
    async with access.read_directly() as connection:
        topics = await repository.list_topics(connection)
        groups = await repository.list_groups(connection)
    return [_topic(one, [group for group in groups if group["topic"] == one["topic"]]) for one in topics]


@router.get("/dlq/messages", summary="Read dead letters", responses=problems(403, 422, 503))
async def read_dead(
    access: AccessDep,
    gate: GateDep,
    topic: Annotated[str | None, Query(pattern=schemas.NAME, max_length=63)] = None,
    group: Annotated[str | None, Query(pattern=schemas.NAME, max_length=63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> schemas.DeadMessages:
    """The latest first, of every topic or of one."""
    await gate.ask(Operation.READ_DEAD, topic)
    async with access.read_directly() as connection:
        found = await repository.list_dead(connection, topic=topic, group=group, before=_END, most=limit)
    return schemas.DeadMessages(messages=[_dead(row) for row in found])


@router.get("/{topic}", summary="One topic", responses=problems(403, 404, 503))
async def get_topic(topic: str, access: AccessDep, gate: GateDep) -> schemas.TopicState:
    """With its groups and how far they are behind."""
    await gate.ask(Operation.MONITOR, topic)
    async with access.read_directly() as connection:
        return await _topic_state(connection, topic)


@router.post(
    "/{topic}/messages",
    summary="Publish many messages",
    responses=problems(400, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=json_body(schemas.PublishBatch),
)
async def publish_batch(
    topic: str, request: Request, access: AccessDep, gate: GateDep
) -> schemas.PublishedBatch:
    """Up to 1,000, all or none of them."""
    body = validate(schemas.PublishBatch, await read_json(request, limit=BODY_LIMIT))
    await gate.ask(Operation.PUBLISH, topic)
    headers = message_headers(_trace(request))
    messages = [
        Message(one.message, one.key, headers, one.message_id, one.dedup_key, one.schema_version)
        for one in body.messages
    ]
    async with access.write_at_once() as connection:
        made = await service.publish(connection, topic, messages, actor=gate.principal.name)
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
async def create_group(
    topic: str, request: Request, access: AccessDep, gate: GateDep
) -> schemas.GroupState:
    """It starts at the beginning, now, at a time or at a position; one that is there stays as it is."""
    body = validate(schemas.MakeGroup, await read_json(request, limit=BODY_LIMIT))
    await gate.ask(Operation.MANAGE, topic)
    async with access.write_at_once() as connection:
        await service.create_group(
            connection,
            topic,
            body.group,
            body.start,
            actor=gate.principal.name,
            max_attempts=body.max_attempts,
            retry_delay_ms=body.retry_delay_ms,
            backoff=body.backoff,
            ordered=body.ordered,
        )
        return await _group_state(connection, topic, body.group)


@router.get("/{topic}/groups/{group}", summary="One group with its lag", responses=problems(403, 404, 503))
async def get_group(topic: str, group: str, access: AccessDep, gate: GateDep) -> schemas.GroupState:
    """What waits, what runs, what is dead, who consumes."""
    await gate.ask(Operation.MONITOR, topic)
    async with access.read_directly() as connection:
        return await _group_state(connection, topic, group)
@router.post("/{topic}/groups/{group}/pause", summary="Pause a group", responses=problems(403, 404, 503))
async def pause_group(topic: str, group: str, access: AccessDep, gate: GateDep) -> schemas.GroupState:
    """It gets nothing more; what is published waits for it."""
    return await _pause(topic, group, access, gate, paused=True)


@router.post("/{topic}/groups/{group}/resume", summary="Resume a group", responses=problems(403, 404, 503))
async def resume_group(topic: str, group: str, access: AccessDep, gate: GateDep) -> schemas.GroupState:
    """It gets what has waited."""
    return await _pause(topic, group, access, gate, paused=False)


@router.post(
    "/{topic}/groups/{group}/replay",
    status_code=202,
    summary="Deliver again",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Seek),
)
async def replay(
    topic: str, group: str, request: Request, access: AccessDep, gate: GateDep
) -> schemas.Replay:
    """To this group alone, from a position or a time on; with `keep_waiting` false like moving an offset."""
    body = validate(schemas.Seek, await read_json(request, limit=BODY_LIMIT))
    await gate.ask(Operation.REPLAY, topic)
    async with access.write_at_once() as connection:
        found = await consuming.find_group(connection, topic, group)
        made = await service.replay(
            connection,
            found,
            body.start,
            last=body.until_position,
            keep_waiting=body.keep_waiting,
            actor=gate.principal.name,
        )
    return schemas.Replay.model_validate(made)


# --- consume -------------------------------------------------------------------------------------------------


@router.post(
    "/{topic}/groups/{group}/consume",
    summary="Take messages",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Consume),
)
async def consume(
    topic: str, group: str, request: Request, access: AccessDep, gate: GateDep
) -> schemas.Consumed:
    """Up to `most` messages under a lease; waits up to `wait_seconds` for the first one."""
    body = validate(schemas.Consume, await read_json(request, limit=BODY_LIMIT))
    await gate.ask(Operation.CONSUME, topic)
    until, pause = monotonic() + body.wait_seconds, FIRST_PAUSE
    while True:
        async with access.write_at_once() as connection:
            found = await service.consume(
                connection,
                await consuming.find_group(connection, topic, group),
                most=body.most,
                lease=timedelta(seconds=body.lease_seconds),
                consumer=body.consumer,
                actor=gate.principal.name,
            )
        left = until - monotonic()
        if found or left <= 0 or await request.is_disconnected():
            return schemas.Consumed(messages=[_consumed(one) for one in found])
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, LONGEST_PAUSE)


@router.post(
    "/{topic}/groups/{group}/ack",
    summary="Acknowledge messages",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Acknowledge),
)
async def acknowledge(
    topic: str, group: str, request: Request, access: AccessDep, gate: GateDep
) -> schemas.Acknowledged:
    """They are handled. Safe to repeat."""
    body = validate(schemas.Acknowledge, await read_json(request, limit=BODY_LIMIT))
    async with _consuming(topic, group, access, gate) as (connection, found):
        good, lost = await service.acknowledge(connection, found, body.receipts, actor=gate.principal.name)
    return schemas.Acknowledged(acknowledged=good, lost=lost)


@router.post(
    "/{topic}/groups/{group}/nack",
    summary="Return messages",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.NotAcknowledge),
)
async def give_back(
    topic: str, group: str, request: Request, access: AccessDep, registry: RegistryDep, gate: GateDep
) -> schemas.NotAcknowledged:
    """These tries failed: they come again after a delay, or are dead letters when it was the last try."""
    body = validate(schemas.NotAcknowledge, await read_json(request, limit=BODY_LIMIT))
    async with _consuming(topic, group, access, gate) as (connection, found):
        again, dead, lost = await service.give_back(
            connection,
            registry,
            found,
            body.receipts,
            delay=body.delay_seconds,
            reason=body.reason,
            actor=gate.principal.name,
        )
    return schemas.NotAcknowledged(returned=again, dead=dead, lost=lost)


@router.post(
    "/{topic}/groups/{group}/extend",
    summary="Keep leases for longer",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Extend),
)
async def extend(
    topic: str, group: str, request: Request, access: AccessDep, gate: GateDep
) -> schemas.Extended:
    """Counted from now."""
    body = validate(schemas.Extend, await read_json(request, limit=BODY_LIMIT))
    async with _consuming(topic, group, access, gate) as (connection, found):
        good, lost = await service.extend(
            connection, found, body.receipts, lease=timedelta(seconds=body.lease_seconds)
        )
    return schemas.Extended(extended=good, lost=lost)


# --- shapes --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _consuming(
    topic: str, group: str, access: Any, gate: Gate
) -> AsyncIterator[tuple[repository.Connection, Row]]:
    await gate.ask(Operation.CONSUME, topic)
    async with access.write_at_once() as connection:
        yield connection, await consuming.find_group(connection, topic, group)


async def _pause(topic: str, group: str, access: Any, gate: Gate, *, paused: bool) -> schemas.GroupState:
    await gate.ask(Operation.MANAGE, topic)
    async with access.write_at_once() as connection:
        found = await consuming.find_group(connection, topic, group)
        await service.pause(connection, found, actor=gate.principal.name, paused=paused)
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


def _told(error: AppError) -> Response:
    """The error's problem, with the members that the interface names."""
    told = answers.render(error)
    body = json.loads(bytes(told.body)) | {"status": "error", "error": error.message}
    headers = {name: value for name, value in told.headers.items() if name in ("retry-after", "connection")}
    return Response(json.dumps(body), told.status_code, headers, answers.MEDIA_TYPE)


async def _topic_state(connection: repository.Connection, topic: str) -> schemas.TopicState:
    found = await repository.list_topics(connection, topic=topic)
    if not found:
        raise topic_unknown()
    return _topic(found[0], await repository.list_groups(connection, topic=topic))


async def _group_state(connection: repository.Connection, topic: str, group: str) -> schemas.GroupState:
    found = await repository.list_groups(connection, topic=topic, group=group)
    if not found:
        raise group_unknown()
    return _group(found[0])


def _topic(row: Row, groups: Sequence[Row]) -> schemas.TopicState:
    return schemas.TopicState(
        **{
            name: row[name]
            for name in ("topic", "drop_unread", "encrypted", "oldest", "newest", "lost", "created_at")
        },
        retention_seconds=row["retention"].total_seconds(),
        dedup_window_seconds=row["dedup_window"].total_seconds(),
        groups=[_group(one) for one in groups],
    )


def _group(row: Mapping[str, Any]) -> schemas.GroupState:
    return schemas.GroupState.model_validate({**row, "group": row["group_name"]})


def _consumed(one: consuming.Delivered) -> schemas.ConsumedMessage:
    envelope = one.envelope
    return schemas.ConsumedMessage(
        receipt=one.receipt,
        message_id=envelope["message_id"],
        position=envelope["position"],
        key=envelope["key"],
        attempt=one.job.attempt,
        schema_version=envelope["schema_version"],
        published_at=envelope["published_at"],
        headers=envelope.get("headers") or {},
        message=one.body,
    )


def _dead(row: Row) -> schemas.DeadMessage:
    return schemas.DeadMessage.model_validate(
        {**row, "group": row["group_name"], "message": row["payload"]}, extra="ignore"
    )
