"""The HTTP face of the conversations: paths, status codes and headers. What happens is in service.py."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from app.api import direct
from app.api.auth import requires
from app.api.body import LARGE, read_json, validate
from app.api.dependencies import AccessDep, settings_of
from app.api.gathering import Gathering
from app.api.openapi import json_body, link, problems
from app.config import Settings
from app.context import bind
from app.domains.conversations import service
from app.domains.conversations.repository import Written
from app.domains.conversations.schemas import Accepted, CandidatesState, ConversationState, EndConversation

router = APIRouter(tags=["conversations"])
_READ = [Depends(requires("conversations:read"))]
_LOCATION: dict[str, Any] = {
    "Location": {"description": "Where the conversation can be read", "schema": {"type": "string"}}
}
_NEXT: dict[str, Any] = {
    "conversation": link(
        "get_conversation", "What became of it", conversation_id="$request.body#/conversation_id"
    ),
    "candidates": link("get_candidates", "Who talks to the user next", user_id="$request.body#/profile_id"),
    "job": link("get_job", "Its job", job_id="$response.body#/job_id"),
    "result": link("get_result", "What its job answered", job_id="$response.body#/job_id"),
    "why": link("get_explanation", "Why its job waits", job_id="$response.body#/job_id"),
    "cancel": link("cancel_job", "Let it not be processed", job_id="$response.body#/job_id"),
    "retry": link("retry_job", "Process it again after it failed", job_id="$response.body#/job_id"),
}
_ENDED: dict[str, Any] = {
    "status_code": 202,
    "response_model": Accepted,
    "tags": ["conversations"],
    "responses": {202: {"headers": _LOCATION, "links": _NEXT}} | problems(400, 409, 413, 415, 422, 503),
    "openapi_extra": json_body(EndConversation),
}


Ends = Gathering[dict[str, Any], Written]


def install(app: FastAPI) -> Ends:
    """Add the routes: the end of a conversation is what callers send all day, so it is found before all others.

    Answers where those ends gather; close it before the database's connections.
    """
    needs = requires("conversations:write")
    for path, summary in (
        ("/v1/conversations/end", "Report the end of a conversation"),
        ("/conversations/end", "The same at its old address"),
    ):
        direct.add(app, path, end_conversation, method="POST", needs=needs, summary=summary, **_ENDED)
    app.include_router(router)
    ends: Ends = gathering(app)
    app.state.conversation_ends = ends
    return ends


def gathering(app: FastAPI) -> Ends:
    """What comes while a transaction is under way shares the next one."""
    settings: Settings = app.state.settings

    async def alone(values: dict[str, Any], since: float) -> Written:
        with bind(conversation_id=values["conversation_id"]):
            async with app.state.access.write_at_once(since) as connection:
                return await service.end_conversation(connection, values)

    async def together(batch: Sequence[dict[str, Any]], since: float) -> Sequence[Written]:
        async with app.state.access.write_at_once(since) as connection:
            return await service.end_conversations(connection, batch)

    return Gathering(alone, together, most=settings.api.gather_most, limit=settings.api.gather_limit)


async def end_conversation(request: Request) -> Response:
    """Write the event and its job in one transaction; workers start at once.

    Safe to repeat: the same body gives the same ids, another body for the same conversation_id gives 409. After a 503
    repeat the call unchanged.
    """
    settings = settings_of(request)
    body = await read_json(request, limit=settings.api.body_limit_bytes)

    def read() -> dict[str, Any]:
        return service.prepare(validate(EndConversation, body), body.document, settings.conversations)

    large = len(body.raw) > LARGE
    values = await asyncio.to_thread(read) if large else read()
    ends: Ends = request.app.state.conversation_ends
    # A large one would hold up the others of its transaction.
    written = await (ends.send_alone(values) if large else ends.send(values))
    location = f"/v1/conversations/{values['conversation_id']}"
    return Response(service.accept(written), 202, {"Location": location}, "application/json")


@router.get(
    "/v1/conversations/{conversation_id}",
    summary="What became of a conversation",
    dependencies=_READ,
    responses=problems(404, 503),
)
async def get_conversation(conversation_id: str, access: AccessDep) -> ConversationState:
    """Event, job and outcome."""
    async with access.read() as connection:
        return await service.find_conversation(connection, conversation_id)


@router.get(
    "/v1/users/{user_id}/candidates",
    summary="Who talks to the user next",
    dependencies=_READ,
    responses=problems(404, 503),
)
async def get_candidates(user_id: str, access: AccessDep) -> CandidatesState:
    """The agents chosen after the user's last conversation; they expire after 12 hours."""
    async with access.read() as connection:
        return await service.find_candidates(connection, user_id)
