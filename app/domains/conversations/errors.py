"""What can go wrong here, beyond what the queue and the database report themselves."""

from uuid import UUID

from app.errors import Conflict, InvalidInput, NotFound
from app.queue.retry import HandlerError


def conversation_conflict() -> Conflict:
    """The conversation_id is known with another body."""
    return Conflict(
        "conversation-conflict",
        "this conversation_id was reported before with another body; a conversation ends once",
    )


def log_too_large(size: int, limit: int) -> InvalidInput:
    """The conversation log has more bytes than the limit."""
    return InvalidInput(
        "conversation-log-too-large",
        f"the conversation log has {size} bytes as JSON, the limit is {limit}",
        detail={"errors": [{"pointer": "/conversation_log", "detail": f"has more than {limit} bytes"}]},
    )


def conversation_unknown() -> NotFound:
    """There is no such conversation; malformed ids answer the same."""
    return NotFound("conversation-not-found", "there is no conversation with this id")


def no_candidates() -> NotFound:
    """The user has no candidates: no conversation was processed within their time of expiry."""
    return NotFound("no-candidates", "there are no current candidates for this user")


def event_missing(event_id: UUID) -> HandlerError:
    """The job's event is gone: somebody deleted it, and no retry brings it back."""
    return HandlerError(
        f"there is no conversation event {event_id}", error_class="permanent", code="event-missing"
    )
