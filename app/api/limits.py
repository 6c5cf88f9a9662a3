"""/v1/limits: limits of managed queues over HTTP. What happens is in queue.limits; here are paths and shapes."""

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.auth import PrincipalDep, requires
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep
from app.api.openapi import json_body, problems
from app.errors import NotFound
from app.queue import limits

router = APIRouter(prefix="/v1/limits", tags=["limits"])
BODY_LIMIT: Final = 4 * 1024
_READ: Final = [Depends(requires("limits:read"))]
_CHANGE: Final = [Depends(requires("limits:write"))]
_PATH_TARGET: Final = {"type": "string", "maxLength": 400, "examples": ["global", "key:reports/customer-7"]}
_COUNT: Final = 2**31 - 1
_log = logging.getLogger(__name__)


class PutLimit(BaseModel):
    """What is left out stays as it is. All but `max_running` are a key's own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"max_running": 10}]})

    max_running: Annotated[int, Field(ge=0, le=_COUNT)] | None = None
    weight: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    rate: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    exempt: bool | None = None


class Limit(BaseModel):
    """A limit with what runs under it now; `note` says what else a queue or key has, for people."""

    target: str
    max_running: int | None
    weight: float | None
    rate: float | None
    burst: int | None
    exempt: bool | None
    running: int
    note: str | None


class LimitList(BaseModel):
    """Every limit, by target."""

    limits: list[Limit]


async def _target(target: Annotated[str, WithJsonSchema(_PATH_TARGET)]) -> str:
    """What is no target at all is answered like one that nobody has."""
    if "\x00" in target or not limits.TARGET.fullmatch(target):
        raise NotFound("unknown-limit", "targets are global, kind:NAME, queue:NAME, key:QUEUE/KEY")
    return target


TargetDep = Annotated[str, Depends(_target)]


@router.get("", dependencies=_READ, summary="List limits", responses=problems(503))
async def list_limits(access: AccessDep) -> LimitList:
    """Global, of kinds, of managed queues, of keys that have something of their own, and keys that stopped."""
    async with access.read() as connection:
        rows = await limits.list_limits(connection)
    return LimitList(limits=[Limit.model_validate(row) for row in rows])


@router.put(
    "/{target:path}",
    dependencies=_CHANGE,
    status_code=204,
    summary="Set a limit",
    responses=problems(400, 404, 413, 415, 422, 503),
    openapi_extra=json_body(PutLimit),
)
async def put_limit(target: TargetDep, request: Request, access: AccessDep, caller: PrincipalDep) -> Response:
    """In effect with the next admission; a lowered limit drains, nothing that runs is ended. Safe to repeat."""
    wanted = validate(PutLimit, await read_json(request, limit=BODY_LIMIT))
    async with access.write_at_once() as connection, connection.transaction():
        await limits.set_limit(connection, target, **wanted.model_dump())
    _log.info("%s set limit %s: %s", caller.subject, target, wanted.model_dump(exclude_none=True))
    return Response(status_code=204)


@router.delete(
    "/{target:path}",
    dependencies=_CHANGE,
    status_code=204,
    summary="Remove a limit",
    responses=problems(404, 503),
)
async def remove_limit(target: TargetDep, access: AccessDep, caller: PrincipalDep) -> Response:
    """Or all that a key has of its own."""
    async with access.write_at_once() as connection, connection.transaction():
        await limits.clear_limit(connection, target)
    _log.info("%s removed limit %s", caller.subject, target)
    return Response(status_code=204)
