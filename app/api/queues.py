"""/v1/queues: when what waits in a queue will have been started. What happens is in queue.eta."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import WithJsonSchema

from app.api.auth import requires
from app.api.dependencies import AccessDep
from app.api.job_models import QueueEta
from app.api.openapi import problems
from app.errors import NotFound
from app.queue.eta import queue_eta
from app.queue.job import NAME

router = APIRouter(prefix="/v1/queues", tags=["queues"])
_PATH_NAME = {"type": "string", "pattern": NAME.pattern.replace(r"\Z", "$"), "examples": ["default"]}


@router.get(
    "/{queue}/eta",
    summary="When its backlog is done",
    dependencies=[Depends(requires("jobs:read"))],
    responses=problems(404, 503),
)
async def get_queue_eta(queue: Annotated[str, WithJsonSchema(_PATH_NAME)], access: AccessDep) -> QueueEta:
    """How many jobs wait, and until when all of them will have been started, with an 80 % band."""
    if not NAME.match(queue):
        raise NotFound("unknown-queue", "there is no such queue")
    async with access.read() as connection:
        return QueueEta.model_validate(await queue_eta(connection, queue))
