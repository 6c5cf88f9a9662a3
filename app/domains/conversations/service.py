"""What callers can do: report the end of a conversation, and ask what became of it. Knows no HTTP."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

import psycopg

from app.api.ids import uuid7
from app.api.strict_json import canonical
from app.config import ConversationSettings
from app.context import present
from app.domains.conversations import repository
from app.domains.conversations.errors import (
    conversation_conflict,
    conversation_unknown,
    log_too_large,
    no_candidates,
)
from app.domains.conversations.repository import Written
from app.domains.conversations.schemas import (
    ID,
    CandidatesState,
    ConversationState,
    EndConversation,
    EventState,
    JobState,
    Outcome,
)
from app.errors import Unavailable

MOST_RIVALS: Final = 3


def prepare(
    request: EndConversation, document: dict[str, Any], settings: ConversationSettings
) -> dict[str, Any]:
    """The statement's values for a validated body. Raises InvalidInput for a log over its limit.

    The hash is taken over the canonical document as it came: the same JSON in another order is the same body.
    """
    log = canonical(document["conversation_log"])
    size = len(log.encode())
    if size > settings.log_limit_bytes:
        raise log_too_large(size, settings.log_limit_bytes)
    rest = canonical({name: value for name, value in document.items() if name != "conversation_log"})
    context = {"request_id": str(present().get("request_id", "")), "conversation_id": request.conversation_id}
    return {
        "id": uuid7(),
        "conversation_id": request.conversation_id,
        "user_id": request.profile_id,
        "bot_type": request.bot_type,
        "bot_id": request.bot_id,
        "bot_name": request.bot_name,
        "start_time": request.start_time,
        "end_time": request.end_time,
        "conversation_log": log,
        "body_hash": sha256(f"{rest}\n{log}".encode()).digest(),
        "fallback": timedelta(seconds=settings.fallback_delay_seconds),
        "context": canonical(context),
    }


async def end_conversation(connection: psycopg.AsyncConnection[Any], values: dict[str, Any]) -> Written:
    """Write event and job in one transaction, or find those of the first call. `connection` commits each statement."""
    for _ in range(MOST_RIVALS):
        written = await repository.end_conversation(connection, values)
        if written is not None:
            return written
    raise Unavailable("database-busy", "too many calls for this conversation at once; nothing was done")


async def end_conversations(
    connection: psycopg.AsyncConnection[Any], batch: Sequence[dict[str, Any]]
) -> list[Written]:
    """The same for many in one transaction. Raises when one of them cannot be written now: then none is."""
    return await repository.end_conversations(connection, batch)


def accept(written: Written) -> str:
    """The answer, an `Accepted` as JSON. Raises Conflict when the first call had another body."""
    if not written.same_body:
        raise conversation_conflict()
    job_id = "null" if written.job_id is None else written.job_id
    return f'{{"event_id":"{written.event_id}","job_id":{job_id},"status":"{written.status}"}}'


async def find_conversation(
    connection: psycopg.AsyncConnection[Any], conversation_id: str
) -> ConversationState:
    """Event, job and outcome. Raises NotFound."""
    row = (
        await repository.find_conversation(connection, conversation_id) if ID.match(conversation_id) else None
    )
    if row is None:
        raise conversation_unknown()
    job = {name.removeprefix("job_"): value for name, value in row.items() if name.startswith("job_")}
    job["job_id"] = row["job_id"]
    ended = row["status"] in ("PROCESSED", "FAILED") or row["error_code"] is not None
    return ConversationState(
        conversation_id=row["conversation_id"],
        event_id=row["event_id"],
        job_id=row["job_id"],
        status=row["status"],
        event=EventState.model_validate(row),
        job=JobState.model_validate(job) if row["job_id"] is not None else None,
        outcome=Outcome.model_validate(row) if ended else None,
    )


async def find_candidates(connection: psycopg.AsyncConnection[Any], user_id: str) -> CandidatesState:
    """The user's next agents. Raises NotFound when there are none, or they have expired."""
    row = await repository.find_candidates(connection, user_id) if ID.match(user_id) else None
    if row is None:
        raise no_candidates()
    return CandidatesState.model_validate(row)
