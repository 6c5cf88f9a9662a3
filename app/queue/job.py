"""What a job is: what producers write (NewJob) and what a worker holds (ClaimedJob).

Knows nothing of SQL, of how a job runs, or of any domain.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from app.errors import InvalidInput

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")
PRIORITIES = range(10)
"""0 is the least urgent band, 9 the most; 5 is the default."""
DEFAULT_PRIORITY = 5
PAYLOAD_LIMIT_BYTES = 256 * 1024
FURTHEST = timedelta(days=366)
UniqueScope = Literal["pending", "unfinished", "period", "forever"]
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_UNPAIRED_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Unique:
    """An idempotency key within a queue, and how long it holds.

    `pending`: until a worker claims the job; `unfinished`: until it ends; `period`: for `period`; `forever`.
    """

    key: str
    scope: UniqueScope = "forever"
    period: timedelta | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= 255 or "\0" in self.key:
            raise InvalidInput("invalid-unique-key", "a unique key has 1 to 255 characters, none of them NUL")
        if (self.scope == "period") != (self.period is not None):
            raise InvalidInput("invalid-unique-key", "`period` goes with scope 'period', and only with it")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue. `payload` is a mapping, a dataclass or a pydantic model; at most 256 KiB as JSON.

    `run_at` needs a time zone and lies at most 366 days ahead; the past means now. Raises InvalidInput.
    """

    kind: str
    payload: Any = field(default_factory=dict)
    queue: str = "default"
    priority: int = DEFAULT_PRIORITY
    run_at: datetime | None = None
    partition_key: str | None = None
    event_id: UUID | None = None
    unique: Unique | None = None
    policy: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_name("kind", self.kind)
        check_name("queue", self.queue)
        if self.priority not in PRIORITIES:
            raise InvalidInput("invalid-priority", f"priority is 0 to 9, not {self.priority}")
        if self.run_at is not None:
            _check_run_at(self.run_at)
        if self.partition_key is not None and not 1 <= len(self.partition_key) <= 255:
            raise InvalidInput("invalid-partition-key", "a partition key has 1 to 255 characters")

    def body(self) -> str:
        """The payload as JSON text. Raises InvalidInput for what PostgreSQL or the limit would refuse."""
        return encode_json(self.payload, limit=PAYLOAD_LIMIT_BYTES, what="payload")


def check_name(what: str, name: str) -> None:
    """Raise InvalidInput unless `name` is a lower-case identifier of at most 63 characters."""
    if not NAME.match(name):
        raise InvalidInput(
            f"invalid-{what}",
            f"{what} {name!r} is not a name: lower-case letters, digits, '_', '.', '-', a letter first, at most 63",
        )


def _check_run_at(run_at: datetime) -> None:
    if run_at.tzinfo is None:
        raise InvalidInput("invalid-run-at", "run_at needs a time zone")
    if run_at > datetime.now(UTC) + FURTHEST:
        raise InvalidInput("invalid-run-at", f"run_at is at most {FURTHEST.days} days ahead")


def encode_json(value: Any, *, limit: int, what: str) -> str:
    """Encode as strict JSON within `limit` bytes. Raises InvalidInput (NaN, NUL, lone surrogates, size, type)."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif is_dataclass(value) and not isinstance(value, type):
        value = TypeAdapter(type(value)).dump_python(value, mode="json")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"invalid-{what}", f"the {what} is not JSON: {error}") from None
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise InvalidInput(
            "nul-character", f"the {what} holds a NUL character, which PostgreSQL cannot store"
        )
    if _UNPAIRED_SURROGATE.search(text):
        raise InvalidInput("invalid-unicode", f"the {what} holds an unpaired surrogate")
    size = len(text.encode())
    if size > limit:
        raise InvalidInput(
            f"{what}-too-large",
            f"the {what} has {size} bytes, the limit is {limit}: store the data in a table and pass its key",
        )
    return text


@dataclass(frozen=True, slots=True)
class Enqueued:
    """Where an enqueue led: `created` is false when a unique key already had its job."""

    job_id: int
    created: bool


@dataclass(slots=True)
class ClaimedJob:
    """A job as a worker holds it. `token` fences every later write; `payload` is decoded when it is read."""

    token: int
    id: int
    position: int
    queue: str
    priority: int
    attempt: int
    crashes: int
    suspect: bool
    partition_key: str | None
    ready_at: datetime
    claimed_at: datetime
    kind: str
    raw_payload: str
    event_id: UUID | None
    raw_policy: str | None
    raw_context: str | None
    created_at: datetime
    cancelled: bool
    received_at: float = field(default_factory=monotonic)

    def own_limit(self, name: str) -> int | None:
        """A whole number from the job's own policy (max_attempts, crash_limit); what is none counts as absent.

        Any SQL client may have written the policy, so nothing about it is certain.
        """
        policy = json.loads(self.raw_policy) if self.raw_policy else None
        limit = policy.get(name) if isinstance(policy, dict) else None
        return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None

    @property
    def context(self) -> dict[str, Any]:
        """Request id, trace and the like, as the producer gave them."""
        context = json.loads(self.raw_context) if self.raw_context else None
        return context if isinstance(context, dict) else {}
