"""Bodies and answers of the topics' endpoints: their shapes and bounds, nothing else."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.problem_models import Problem

NAME = r"^[a-z][a-z0-9_.-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME, max_length=63)]
Key = Annotated[str, Field(min_length=1, max_length=255)]
_NUMBER = "([1-9a-f][0-9a-f]{0,14}|[1-7][0-9a-f]{15})"
_RECEIPT = {"pattern": f"^{_NUMBER}-(0|{_NUMBER})$"}
"""Told, not enforced here: what is no receipt has an error of its own."""
Receipts = Annotated[
    list[Annotated[str, Field(min_length=3, max_length=40, json_schema_extra=_RECEIPT)]],
    Field(min_length=1, max_length=1000),
]
DeadHead = Literal["skip", "block"]
LeaseSeconds = Annotated[float, Field(ge=1, le=43_200)]


class Body(BaseModel):
    """A request: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")


class Publish(Body):
    """`POST /api/v1/queue/publish`."""

    topic: Name
    message: Any
    key: Key | None = None


class Published(BaseModel):
    """What a publish answers."""

    status: Literal["ok"] = "ok"
    messageId: UUID  # noqa: N815 - the name is the interface's


class NotPublished(Problem):
    """A problem whose `status` is "error", and `error` its text; the server's edge answers plain problems."""

    status: int | Literal["error"]  # type: ignore[assignment]
    error: str | None = None


class TopicStatus(BaseModel):
    """One line of `GET /api/v1/queue/status`."""

    topic: str
    lag: int
    consumerCount: int  # noqa: N815
    dlqSize: int  # noqa: N815


class RetryDead(Body):
    """`POST /api/v1/queue/dlq/retry`; topic `dlq` means the dead letters of every topic."""

    topic: Name
    maxMessages: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # noqa: N815
    group: Name | None = None


class Retried(BaseModel):
    """How many dead letters go out again, and how many could not."""

    retried: int
    errors: int


class MessageToPublish(Body):
    """One message of a batch. With `message_id` or `dedup_key` a repeat within the topic's window is published once."""

    message: Any
    key: Key | None = None
    message_id: UUID | None = None
    dedup_key: Key | None = None
    schema_version: Annotated[int, Field(ge=1, le=32_767)] = 1


class PublishBatch(Body):
    """All or none of them."""

    messages: Annotated[list[MessageToPublish], Field(min_length=1, max_length=1000)]


class PublishedMessage(BaseModel):
    """`created` is false for a repeat, which answers the first one's id and position."""

    message_id: UUID
    position: int
    created: bool


class PublishedBatch(BaseModel):
    """In the order of the request."""

    messages: list[PublishedMessage]


class Consume(Body):
    """Ask for messages; `wait_seconds` is how long to wait for the first."""

    most: Annotated[int, Field(ge=1, le=1000)] = 10
    lease_seconds: LeaseSeconds = 30.0
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    consumer: Annotated[str, Field(min_length=1, max_length=100)] = "http"


class ConsumedMessage(BaseModel):
    """One delivery: acknowledge its receipt before the lease ends, or it comes again."""

    receipt: str
    message_id: UUID
    position: int
    key: str | None
    attempt: int
    schema_version: int
    published_at: datetime
    headers: dict[str, Any]
    message: Any


class Consumed(BaseModel):
    """What a consume answers; empty when nothing came in time."""

    messages: list[ConsumedMessage]


class Acknowledge(Body):
    """These messages are handled."""

    receipts: Receipts


class Acknowledged(BaseModel):
    """`lost`: the lease had ended, so the message comes or came again."""

    acknowledged: list[str]
    lost: list[str]


class NotAcknowledge(Body):
    """These tries failed; without `delay_seconds` the group's backoff decides when they come again."""

    receipts: Receipts
    delay_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=500)] = "the consumer returned it"


class NotAcknowledged(BaseModel):
    """`dead`: it was the last try that the group allows."""

    returned: list[str]
    dead: list[str]
    lost: list[str]


class Extend(Body):
    """Keep these leases for longer, counted from now."""

    receipts: Receipts
    lease_seconds: LeaseSeconds = 30.0


class Extended(BaseModel):
    """`lost`: the lease had ended."""

    extended: list[str]
    lost: list[str]


class MakeTopic(Body):
    """A topic's rules; one that is there stays as it is."""

    topic: Name
    retention_seconds: Annotated[float, Field(ge=60, le=31_622_400)] = 604_800.0
    dedup_window_seconds: Annotated[float, Field(ge=1, le=31_622_400)] = 86_400.0
    drop_unread: bool = False
    encrypted: bool = False


class Where(Body):
    """A place in a topic: a position, a time, or one of the two ends."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": kind}}}
                for name, kind in (("position", "integer"), ("time", "string"), ("at", "string"))
            ]
        }
    )
    position: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    time: datetime | None = None
    at: Literal["beginning", "now"] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "Where":
        given = [one for one in (self.position, self.time, self.at) if one is not None]
        if len(given) != 1:
            raise ValueError("say exactly one of position, time, at")
        if self.time is not None and self.time.utcoffset() is None:
            raise ValueError("time needs a time zone")
        return self


class MakeGroup(Body):
    """A group's rules; one that is there stays as it is."""

    group: Name
    start: Where = Where(at="now")
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    retry_delay_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 2000
    backoff: Literal["exponential", "linear"] = "exponential"
    ordered: bool = False
    dead_head: DeadHead = "skip"


class Order(Body):
    """Order per key; `dead_head` says whether a dead letter is passed over (skip) or stops its key (block)."""

    ordered: bool
    dead_head: DeadHead = "skip"


class Seek(Body):
    """`replay` delivers again and keeps what waits; `seek` drops what waits first, like moving an offset."""

    start: Where
    until_position: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    keep_waiting: bool = True


class Replay(BaseModel):
    """Runs on in the background; `skipped` deliveries were dropped by a seek."""

    fill: int
    from_position: int
    to_position: int
    skipped: int


class GroupState(BaseModel):
    """A group with its lag."""

    topic: str
    group: str
    queue: str
    ordered: bool
    dead_head: str | None
    halted: int
    max_attempts: int
    retry_delay_ms: int
    backoff: str
    paused_at: datetime | None
    ready: int
    scheduled: int
    running: int
    blocked: int
    lag: int
    lag_seconds: float
    dead: int
    consumers: int
    fills: int


class TopicState(BaseModel):
    """A topic with its groups."""

    topic: str
    retention_seconds: float
    dedup_window_seconds: float
    drop_unread: bool
    encrypted: bool
    oldest: int | None
    newest: int | None
    lost: int
    created_at: datetime
    groups: list[GroupState]


class DeadMessage(BaseModel):
    """A dead letter read as a message of topic `dlq`."""

    job_id: int
    topic: str
    group: str
    position: int
    message_id: UUID | None
    key: str | None
    attempts: int
    error_class: str | None
    reason: str | None
    died_at: datetime
    message: Any
    headers: dict[str, Any] | None


class DeadMessages(BaseModel):
    """The latest first."""

    messages: list[DeadMessage]
