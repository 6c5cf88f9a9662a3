"""What a producer says about a job, and what it learns: plain values, checked when they are made.

Knows nothing of connections or SQL.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, get_args
from uuid import UUID

from .encoding import encode_json
from .errors import InvalidInput

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")
PRIORITIES = range(10)
"""0 is the least urgent band, 9 the most; 5 is the default."""
DEFAULT_PRIORITY = 5
DEFAULT_QUEUE = "default"
PAYLOAD_LIMIT_BYTES = 256 * 1024
POLICY_LIMIT_BYTES = 8 * 1024
BATCH_LIMIT = 1_000
FURTHEST = timedelta(days=366)
LONGEST_KEY = 255
AFTER_LIMIT = 10_000
"""For how many jobs one job may wait."""
UniqueScope = Literal["pending", "unfinished", "period", "forever"]
OnFailure = Literal["cancel", "run", "wait"]
_ON_FAILURE = get_args(OnFailure)

clock_offset = timedelta(0)
"""How far the database's clock is moved; only the testing kit sets it, together with the sessions' own setting."""


@dataclass(frozen=True, slots=True)
class Unique:
    """An idempotency key within a queue, and how long it holds.

    `pending`: until a worker claims the job; `unfinished`: until it ends; `period`: for `period`; `forever`.
    """

    key: str
    scope: UniqueScope = "forever"
    period: timedelta | None = None

    def __post_init__(self) -> None:
        check_key("unique key", self.key)
        if self.scope not in get_args(UniqueScope):
            raise InvalidInput(
                "invalid-unique-key", f"a unique scope is one of {', '.join(get_args(UniqueScope))}"
            )
        if (self.scope == "period") != (self.period is not None):
            raise InvalidInput("invalid-unique-key", "`period` goes with scope 'period', and only with it")
        if self.period is not None and not timedelta(0) < self.period <= FURTHEST:
            raise InvalidInput("invalid-unique-key", f"a period lasts up to {FURTHEST.days} days")


@dataclass(frozen=True, slots=True)
class Job:
    """A job to enqueue. `payload` is a mapping, a dataclass or a pydantic model; at most 256 KiB as JSON.

    `run_at` needs a time zone and lies at most 366 days ahead; the past means now. `policy` are the job's own
    limits over those of its kind (max_attempts, crash_limit), `context` is carried along for logs and traces
    (request_id, traceparent). If its first try has not started by `start_by` the job expires: a dead letter of class
    `expired`. `after` are the ids of jobs that must have succeeded before it may run; when one of
    them dies or is cancelled, `on_failure` decides: cancel this job too, run it all the same, or wait for the
    redrive. Raises InvalidInput.
    """

    kind: str
    payload: Any = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    run_at: datetime | None = None
    partition_key: str | None = None
    event_id: UUID | None = None
    unique: Unique | None = None
    policy: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    start_by: datetime | None = None
    after: Sequence[int] = ()
    on_failure: OnFailure = "cancel"

    def __post_init__(self) -> None:
        check_name("kind", self.kind)
        check_name("queue", self.queue)
        priority: object = self.priority
        if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= 9:
            raise InvalidInput("invalid-priority", f"priority is 0 to 9, not {priority!r}")
        if self.run_at is not None:
            _check_time("run_at", self.run_at)
        if self.start_by is not None:
            _check_time("start_by", self.start_by)
        if self.partition_key is not None:
            check_key("partition key", self.partition_key)
        _check_types(self)
        _check_after(self)

    def body(self) -> str:
        """The payload as JSON text. Raises InvalidInput for what PostgreSQL or the limit would refuse."""
        return encode_json(self.payload, limit=PAYLOAD_LIMIT_BYTES, what="payload")


@dataclass(frozen=True, slots=True)
class Enqueued:
    """Where an enqueue led: `created` is false when a unique key already had its job.

    `conflict` is true when that job has another payload; only calls with `on_conflict="report"` answer it.
    """

    job_id: int
    created: bool
    conflict: bool = False


def check_name(what: str, name: str) -> None:
    """Raise InvalidInput unless `name` is a lower-case identifier of at most 63 characters."""
    given: object = name
    if not isinstance(given, str) or not _is_name(given):
        raise InvalidInput(
            f"invalid-{what}",
            f"{what} {name!r} is not a name: lower-case letters, digits, '_', '.', '-', a letter first, at most 63",
        )


@lru_cache(maxsize=512)
def _is_name(name: str) -> bool:
    return NAME.match(name) is not None


def check_key(what: str, key: str) -> None:
    """Raise InvalidInput unless `key` is text of 1 to 255 characters that PostgreSQL can store."""
    given: object = key
    fits = isinstance(given, str) and 1 <= len(given) <= LONGEST_KEY and "\0" not in given
    if not fits or any("\ud800" <= one <= "\udfff" for one in key):
        raise InvalidInput(
            f"invalid-{what.replace(' ', '-')}",
            f"a {what} has 1 to {LONGEST_KEY} characters, none of them NUL or an unpaired surrogate",
        )


def _check_time(what: str, time: datetime) -> None:
    given: object = time
    code = f"invalid-{what.replace('_', '-')}"
    if not isinstance(given, datetime) or given.utcoffset() is None:
        raise InvalidInput(code, f"{what} is a datetime with a time zone")
    if given > datetime.now(UTC) + clock_offset + FURTHEST:
        raise InvalidInput(code, f"{what} is at most {FURTHEST.days} days ahead")


def _check_types(job: Job) -> None:
    event: object = job.event_id
    if event is not None and not isinstance(event, UUID):
        raise InvalidInput("invalid-event-id", f"event_id is a UUID, not {type(event).__name__}")
    unique: object = job.unique
    if unique is not None and not isinstance(unique, Unique):
        raise InvalidInput("invalid-unique-key", f"unique is a Unique(...), not {type(unique).__name__}")
    if job.policy is not None:
        _check_mapping("policy", job.policy)
    if job.context is not None:
        _check_mapping("context", job.context)


def _check_mapping(what: str, given: object) -> None:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"invalid-{what}", f"{what} is a mapping, not {type(given).__name__}")


def _check_after(job: Job) -> None:
    given: object = job.after
    if job.on_failure not in _ON_FAILURE:
        raise InvalidInput("invalid-after", f"on_failure is one of {', '.join(_ON_FAILURE)}")
    if given == ():
        return  # who enqueues thousands of jobs has nearly always these
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise InvalidInput("invalid-after", f"after is a list of job ids, not {type(given).__name__}")
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 < one < 2**63 for one in given):
        raise InvalidInput("invalid-after", "after is a list of job ids: whole numbers from 1 on")
    if len(given) > AFTER_LIMIT:
        raise InvalidInput(
            "invalid-after",
            f"a job waits for at most {AFTER_LIMIT} jobs, not {len(given)}: join them in stages",
        )
