"""What a publisher says about a message, and what it learns: plain values, checked when they are made.

Knows nothing of connections; `arguments` turns a call's messages into the arrays of one statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .batch import OnConflict, small_json, wake_mode
from .encoding import encode_json
from .errors import InvalidInput, UniqueConflict
from .job import BATCH_LIMIT, PAYLOAD_LIMIT_BYTES, check_key, check_name

SCHEMA_VERSIONS = range(1, 32_768)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish. `body` is anything that JSON has, a dataclass or a pydantic model; at most 256 KiB.

    `key` is the partition key: order, where a group asks for it, is kept within a key. With `message_id` or
    `dedup_key` a repeat within the topic's window is published once. `headers` travel along (traceparent,
    correlation_id). Raises InvalidInput.
    """

    body: Any = field(default_factory=dict)
    key: str | None = None
    headers: Mapping[str, Any] | None = None
    message_id: UUID | None = None
    dedup_key: str | None = None
    schema_version: int = 1

    def __post_init__(self) -> None:
        for what, value in (("partition key", self.key), ("dedup key", self.dedup_key)):
            if value is not None:
                check_key(what, value)
        identity: object = self.message_id
        if identity is not None and not isinstance(identity, UUID):
            raise InvalidInput("invalid-message-id", f"message_id is a UUID, not {type(identity).__name__}")
        version: object = self.schema_version
        if not isinstance(version, int) or isinstance(version, bool) or version not in SCHEMA_VERSIONS:
            raise InvalidInput("invalid-schema-version", "schema_version is a number from 1 to 32767")
        headers: object = self.headers
        if headers is not None and not isinstance(headers, Mapping):
            raise InvalidInput("invalid-headers", f"headers is a mapping, not {type(headers).__name__}")


@dataclass(frozen=True, slots=True)
class Published:
    """Where a publish led: `created` is false when the id or key had been published before.

    `conflict` is true when that message has another body; only calls with `on_conflict="report"` answer it.
    """

    message_id: UUID
    position: int
    created: bool
    conflict: bool = False


def one_message(
    message: Any,
    key: str | None,
    headers: Mapping[str, Any] | None,
    message_id: UUID | None,
    dedup_key: str | None,
    schema_version: int,
) -> Message:
    """The message that a call names: ready-made, or by its parts. Raises InvalidInput."""
    if not isinstance(message, Message):
        return Message(message, key, headers, message_id, dedup_key, schema_version)
    if schema_version != 1 or any(one is not None for one in (key, headers, message_id, dedup_key)):
        raise InvalidInput("invalid-message", "a Message has its options in itself: pass nothing beside it")
    return message


def arguments(topic: str, messages: Sequence[Message], *, wake: bool) -> dict[str, Any]:
    """The statement's parameters; a column that no message uses goes as NULL. Raises InvalidInput."""
    check_name("topic", topic)
    if len(messages) > BATCH_LIMIT:
        raise InvalidInput(
            "batch-too-large", f"{len(messages)} messages in one call, the limit is {BATCH_LIMIT}"
        )

    def column(values: list[Any]) -> list[Any] | None:
        return values if any(value is not None for value in values) else None

    versions = [one.schema_version for one in messages]
    return {
        "topic": topic,
        "payloads": [encode_json(one.body, limit=PAYLOAD_LIMIT_BYTES, what="message") for one in messages],
        "keys": column([one.key for one in messages]),
        "headers": column([small_json(one.headers, "headers") for one in messages]),
        "message_ids": column([one.message_id for one in messages]),
        "dedup_keys": column([one.dedup_key for one in messages]),
        "schema_versions": versions if any(version != 1 for version in versions) else None,
        "wake": wake_mode(wake),
    }


def published(
    topic: str, messages: Sequence[Message], rows: Sequence[tuple[Any, ...]], *, on_conflict: OnConflict
) -> list[Published]:
    """One answer per message. Raises UniqueConflict for the first id or key that belongs to another body."""
    if on_conflict == "raise":
        for message, (message_id, _, _, same_body) in zip(messages, rows, strict=True):
            if not same_body:
                name = message.dedup_key or str(message.message_id)
                raise UniqueConflict(
                    "message-conflict",
                    f"{name!r} belongs to message {message_id} of topic {topic!r} with another body",
                    detail={"key": name, "topic": topic, "message_id": str(message_id)},
                )
    return [Published(found, position, created, not same) for found, position, created, same in rows]
