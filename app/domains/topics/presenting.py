"""Rows of the statements as answers of the endpoints. Decides nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.domains.topics import schemas
from app.domains.topics.consuming import Delivered
from app.domains.topics.repository import Row
from app.queue.retry import HandlerError
from app.queue.sealing import Keyring


def topic_state(row: Row, groups: Sequence[Row]) -> schemas.TopicState:
    """A topic with its groups."""
    return schemas.TopicState(
        **{
            name: row[name]
            for name in ("topic", "drop_unread", "encrypted", "oldest", "newest", "lost", "created_at")
        },
        retention_seconds=row["retention"].total_seconds(),
        dedup_window_seconds=row["dedup_window"].total_seconds(),
        groups=[group_state(one) for one in groups],
    )


def group_state(row: Mapping[str, Any]) -> schemas.GroupState:
    """A group with its lag."""
    return schemas.GroupState.model_validate({**row, "group": row["group_name"]})


def consumed(one: Delivered, ring: Keyring) -> schemas.ConsumedMessage:
    """A delivery as a consumer gets it."""
    envelope = one.envelope
    return schemas.ConsumedMessage(
        receipt=one.receipt,
        message_id=envelope["message_id"],
        position=envelope["position"],
        key=envelope["key"],
        attempt=one.job.attempt,
        schema_version=envelope["schema_version"],
        published_at=envelope["published_at"],
        headers=envelope.get("headers") or {},
        message=_readable(one, ring),
    )


def dead_message(row: Row) -> schemas.DeadMessage:
    """A dead letter as a message."""
    return schemas.DeadMessage.model_validate(
        {**row, "group": row["group_name"], "message": row["payload"]}, extra="ignore"
    )


def _readable(one: Delivered, ring: Keyring) -> Any:
    """The body; as it is stored where its key is gone, so that one message never holds up a batch."""
    try:
        return ring.unseal(one.envelope["topic"], one.body)
    except HandlerError:
        return one.body
