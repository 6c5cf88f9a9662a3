"""What can go wrong here, beyond what the queue and the database report themselves."""

from app.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.queue.retry import HandlerError


def topic_unknown() -> NotFound:
    """There is no such topic."""
    return NotFound("unknown-topic", "there is no such topic: make it with `tandem topics create`")


def group_unknown() -> NotFound:
    """There is no such group of this topic."""
    return NotFound("unknown-group", "there is no such group of this topic")


def message_conflict(name: str) -> Conflict:
    """A message id or idempotency key names another body."""
    return Conflict(
        "message-conflict",
        f"{name!r} was published before with another body: use another id for another message",
    )


def not_encrypted() -> InvalidInput:
    """The topic takes ciphertext alone, and this process has no key for it."""
    return InvalidInput(
        "not-encrypted",
        "this topic takes encrypted messages only: give it a key in the file that TANDEM_TOPICS__KEY_FILE names",
    )


def bad_receipt(index: int) -> InvalidInput:
    """A receipt that we did not make."""
    return InvalidInput(
        "bad-receipt",
        "a receipt is what `consume` answered for a message",
        detail={"errors": [{"pointer": f"/receipts/{index}", "detail": "is no receipt"}]},
    )


def forbidden(operation: str) -> Forbidden:
    """Said without telling whether the topic exists."""
    return Forbidden(
        "forbidden",
        f"this needs the permission {operation} and a grant for the topic, which the caller does not have",
    )


def message_dropped(position: int) -> HandlerError:
    """The log's partition is gone: the topic lets retention drop what groups have not read."""
    return HandlerError(
        f"message {position} was dropped by retention", error_class="permanent", code="message-dropped"
    )
