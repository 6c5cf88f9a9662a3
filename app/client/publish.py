"""Publish to a topic in the caller's transaction: the message commits or rolls back with what is written beside it.

For synchronous connections; `aio` has the same functions for asynchronous ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from .batch import OnConflict
from .message import Message, Published, arguments, one_message, published
from .places import SyncPlace, run
from .statements import PUBLISH_MESSAGES


def publish(
    place: SyncPlace,
    topic: str,
    message: Any,
    *,
    key: str | None = None,
    headers: Mapping[str, Any] | None = None,
    message_id: UUID | None = None,
    dedup_key: str | None = None,
    schema_version: int = 1,
    wake: bool = True,
) -> Published:
    """Publish one message, named by its parts or as a `Message`, in `place`'s transaction.

    Every group of the topic gets it when the transaction commits. See `Message` for the options, `publish_many` for
    what is raised.
    """
    one = one_message(message, key, headers, message_id, dedup_key, schema_version)
    return publish_many(place, topic, [one], wake=wake)[0]


def publish_many(
    place: SyncPlace,
    topic: str,
    messages: Sequence[Message],
    *,
    wake: bool = True,
    on_conflict: OnConflict = "raise",
) -> list[Published]:
    """Publish up to 1,000 messages with one statement in `place`'s transaction; answers follow the order given.

    Raises InvalidInput before anything is sent, and UniqueConflict when a message_id or dedup_key belongs to another
    body: the transaction is still good, and holds the other messages. With `on_conflict="report"` such a message is
    answered with `conflict` instead. A topic that is not there is an error of the database (42704).
    """
    if not messages:
        return []
    rows = run(place, PUBLISH_MESSAGES, arguments(topic, messages, wake=wake))
    return published(topic, messages, rows, on_conflict=on_conflict)
