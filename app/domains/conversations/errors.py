"""What can go wrong here, beyond what the queue and the database report themselves."""

from uuid import UUID

from app.errors import Conflict, InvalidInput, NotFound
from app.queue.retry import HandlerError


class ConversationConflict(Conflict):
    """The conversation_id is known with another body."""

    def __init__(self) -> None:
        super().__init__(
            "conversation-conflict",
            "this conversation_id was reported before with another body; a conversation ends once",
        )


class LogTooLarge(InvalidInput):
    """The conversation log is over the limit of bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            "conversation-log-too-large",
            f"the conversation log has {size} bytes as JSON, the limit is {limit}",
            detail={"errors": [{"pointer": "/conversation_log", "detail": f"has more than {limit} bytes"}]},
        )


class ConversationUnknown(NotFound):
    """There is no such conversation; malformed ids answer the same."""

    def __init__(self) -> None:
        super().__init__("conversation-not-found", "there is no conversation with this id")


class NoCandidates(NotFound):
    """The user has no candidates: no conversation was processed within their time of expiry."""

    def __init__(self) -> None:
        super().__init__("no-candidates", "there are no current candidates for this user")


class EventMissing(HandlerError):
    """The job's event is gone: somebody deleted it, and no retry brings it back."""

    def __init__(self, event_id: UUID) -> None:
        super().__init__(
            f"there is no conversation event {event_id}", error_class="permanent", code="event-missing"
        )
