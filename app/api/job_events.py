"""GET /v1/jobs/{id}/events: a job's status and progress as server-sent events, until it has ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from app.api.auth import requires
from app.api.dependencies import AccessDep
from app.api.jobs import JobIdDep, read_one
from app.api.openapi import problems
from app.errors import AppError

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
LOOK_EVERY: Final = 0.5
LONGEST_SECONDS: Final = 600.0
"""A stream ends after this; an EventSource connects again by itself."""
ENDED: Final = ("SUCCEEDED", "DEAD", "CANCELLED")
SHOWN: Final = ("job_id", "status", "attempt", "progress_percent", "progress_stage", "error_class", "reason")
_EVENT: Final = {
    "type": "object",
    "properties": {"event": {"enum": ["job", "end"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events, each of this form; `data` is a JSON object",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    dependencies=[Depends(requires("jobs:read"))],
    responses=_STREAM | problems(404, 503),
    response_class=StreamingResponse,
)
async def follow_job(job_id: JobIdDep, request: Request, access: AccessDep) -> StreamingResponse:
    """An event `job` with the newest status and progress whenever one changes; `end` after the last one."""
    first = await read_one(access, job_id)
    events = _events(access, job_id, first, request)
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(
    access: AccessDep, job_id: int, found: dict[str, Any], request: Request
) -> AsyncIterator[str]:
    loop, told = asyncio.get_running_loop(), ""
    end = loop.time() + LONGEST_SECONDS
    while loop.time() < end and not await request.is_disconnected():
        news = json.dumps({name: found[name] for name in SHOWN}, ensure_ascii=False)
        if news != told:
            yield f"event: job\ndata: {news}\n\n"
            told = news
        if found["status"] in ENDED:
            yield "event: end\ndata: {}\n\n"
            return
        await asyncio.sleep(LOOK_EVERY)
        try:
            found = await read_one(access, job_id)
        except AppError:  # the database is away or the job gone: the client connects again and is told
            return
