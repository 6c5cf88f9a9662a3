"""/v1/queues: when what waits in a queue will have started, and how it ages. The work is in queue.eta, .priority."""

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.auth import PrincipalDep, requires
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep
from app.api.job_models import QueueEta
from app.api.openapi import json_body, problems
from app.errors import NotFound
from app.queue import priority
from app.queue.eta import queue_eta
from app.queue.job import NAME

router = APIRouter(prefix="/v1/queues", tags=["queues"])
BODY_LIMIT: Final = 4 * 1024
_READ: Final = [Depends(requires("queues:read"))]
_CHANGE: Final = [Depends(requires("queues:write"))]
_PATH_NAME: Final = {"type": "string", "pattern": NAME.pattern.replace(r"\Z", "$"), "examples": ["default"]}
_log = logging.getLogger(__name__)


class PutAgeing(BaseModel):
    """Each time a job has waited `after` seconds its priority rises by `step`, up to `most`; step 0: not at all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"after": 600}]})

    after: Annotated[float, Field(ge=priority.SHORTEST, le=priority.LONGEST, allow_inf_nan=False)]
    step: Annotated[int, Field(ge=0, le=priority.HIGHEST)] = 1
    most: Annotated[int, Field(ge=priority.LOWEST, le=priority.HIGHEST)] = priority.HIGHEST


class QueueAgeing(BaseModel):
    """The ageing that operators set; it goes before the one that the code declares."""

    queue: str
    after: float
    step: int
    most: int


async def _name(queue: Annotated[str, WithJsonSchema(_PATH_NAME)]) -> str:
    """What is no name at all is answered like a name that nobody has."""
    if not NAME.match(queue):
        raise NotFound("unknown-queue", "there is no such queue")
    return queue


NameDep = Annotated[str, Depends(_name)]


@router.get(
    "/{queue}/eta",
    summary="When its backlog is done",
    dependencies=[Depends(requires("jobs:read"))],
    responses=problems(404, 503),
)
async def get_queue_eta(queue: NameDep, access: AccessDep) -> QueueEta:
    """How many jobs wait, and until when all of them will have been started, with an 80 % band."""
    async with access.read() as connection:
        return QueueEta.model_validate(await queue_eta(connection, queue))


@router.get("/{queue}/ageing", dependencies=_READ, summary="How its jobs age", responses=problems(404, 503))
async def get_ageing(queue: NameDep, access: AccessDep) -> QueueAgeing:
    """404 (no-ageing) where no operator set any: then what the code says counts."""
    async with access.read() as connection:
        return QueueAgeing.model_validate(await priority.read_ageing(connection, queue))


@router.put(
    "/{queue}/ageing",
    dependencies=_CHANGE,
    summary="Let its jobs age",
    responses=problems(400, 404, 413, 415, 422, 503),
    openapi_extra=json_body(PutAgeing),
)
async def put_ageing(
    queue: NameDep, request: Request, access: AccessDep, caller: PrincipalDep
) -> QueueAgeing:
    """All settings at once, in effect with the sweep's next walk. Safe to repeat."""
    wanted = validate(PutAgeing, await read_json(request, limit=BODY_LIMIT))
    ageing = priority.Ageing(**wanted.model_dump())
    async with access.write_at_once() as connection, connection.transaction():
        row = await priority.age_queue(connection, queue, ageing)
    _log.info("%s set the ageing of queue %s: %s", caller.subject, queue, wanted.model_dump())
    return QueueAgeing.model_validate(row)


@router.delete(
    "/{queue}/ageing",
    dependencies=_CHANGE,
    status_code=204,
    summary="Forget its ageing",
    responses=problems(404, 503),
)
async def remove_ageing(queue: NameDep, access: AccessDep, caller: PrincipalDep) -> Response:
    """What the code says counts again; where it says nothing, priorities that have risen stay."""
    async with access.write_at_once() as connection, connection.transaction():
        await priority.read_ageing(connection, queue)
        await priority.age_queue(connection, queue, None)
    _log.info("%s removed the ageing of queue %s", caller.subject, queue)
    return Response(status_code=204)
