"""The HTTP face of consuming: take messages under a lease, acknowledge, return, extend. A part of router.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Final

from fastapi import APIRouter, Request

from app.api.access import Access
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep, RegistryDep, SettingsDep
from app.api.openapi import json_body, problems
from app.domains.topics import consuming, repository, schemas, service
from app.domains.topics.asking import Consuming
from app.domains.topics.gate import Gate
from app.domains.topics.presenting import consumed
from app.domains.topics.repository import Row
from app.queue.sealing import load_keyring

router = APIRouter(prefix="/v1/topics", tags=["topics"])
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.25
"""Seconds between two looks of a long poll: a waiting consumer holds no connection meanwhile."""
BODY_LIMIT: Final = 64 * 1024


@router.post(
    "/{topic}/groups/{group}/consume",
    summary="Take messages",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Consume),
)
async def consume(
    topic: str, group: str, request: Request, access: AccessDep, settings: SettingsDep, gate: Consuming
) -> schemas.Consumed:
    """Up to `most` messages under a lease; waits up to `wait_seconds` for the first one."""
    body = validate(schemas.Consume, await read_json(request, limit=BODY_LIMIT))
    await gate.enter(topic)
    ring = load_keyring(settings.topics.key_file, settings.topics.keys)
    until, pause = monotonic() + body.wait_seconds, FIRST_PAUSE
    while True:
        async with access.write_at_once() as connection:
            found = await service.consume(
                connection,
                await consuming.find_group(connection, topic, group),
                most=body.most,
                lease=timedelta(seconds=body.lease_seconds),
                consumer=body.consumer,
                actor=gate.actor,
            )
        left = until - monotonic()
        if found or left <= 0 or await request.is_disconnected():
            return schemas.Consumed(messages=[consumed(one, ring) for one in found])
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, LONGEST_PAUSE)


@router.post(
    "/{topic}/groups/{group}/ack",
    summary="Acknowledge messages",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Acknowledge),
)
async def acknowledge(
    topic: str, group: str, request: Request, access: AccessDep, gate: Consuming
) -> schemas.Acknowledged:
    """They are handled. Safe to repeat."""
    body = validate(schemas.Acknowledge, await read_json(request, limit=BODY_LIMIT))
    async with _consuming(topic, group, access, gate) as (connection, found):
        good, lost = await service.acknowledge(connection, found, body.receipts, actor=gate.actor)
    return schemas.Acknowledged(acknowledged=good, lost=lost)


@router.post(
    "/{topic}/groups/{group}/nack",
    summary="Return messages",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.NotAcknowledge),
)
async def give_back(
    topic: str, group: str, request: Request, access: AccessDep, registry: RegistryDep, gate: Consuming
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
            actor=gate.actor,
        )
    return schemas.NotAcknowledged(returned=again, dead=dead, lost=lost)


@router.post(
    "/{topic}/groups/{group}/extend",
    summary="Keep leases for longer",
    responses=problems(400, 403, 404, 415, 422, 503),
    openapi_extra=json_body(schemas.Extend),
)
async def extend(
    topic: str, group: str, request: Request, access: AccessDep, gate: Consuming
) -> schemas.Extended:
    """Counted from now."""
    body = validate(schemas.Extend, await read_json(request, limit=BODY_LIMIT))
    async with _consuming(topic, group, access, gate) as (connection, found):
        good, lost = await service.extend(
            connection, found, body.receipts, lease=timedelta(seconds=body.lease_seconds)
        )
    return schemas.Extended(extended=good, lost=lost)


@asynccontextmanager
async def _consuming(
    topic: str, group: str, access: Access, gate: Gate
) -> AsyncIterator[tuple[repository.Connection, Row]]:
    await gate.enter(topic)
    async with access.write_at_once() as connection:
        yield connection, await consuming.find_group(connection, topic, group)
