"""The shapes of /v1/jobs: what a job looks like over HTTP, and what may be asked. Rows come from queue.admin."""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from app.queue.admin import PAGE_LIMIT

Status = Literal["PENDING", "RUNNING", "SUCCEEDED", "DEAD", "CANCELLED"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,62}$")]
AS_TEXT: Final = "As text where it nests deeper than 100 levels, or holds a number that no double can"
_NUMBER: Final = re.compile(r"[0-9]{1,9}\Z")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def plain_number(value: object) -> object:
    """Digits only: pydantic would also take signs, spaces and 5.0."""
    if isinstance(value, str) and not _NUMBER.match(value):
        raise ValueError("is not a number")
    return value


def _printable(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("holds a control character")
    return value


# Written out, because a validator of our own hides from the document what it checks.
_LIMIT: Final = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT})
_CURSOR: Final = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]{32}$"})
_REASON: Final = WithJsonSchema(
    {"type": "string", "maxLength": 500, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}
)


class JobFilter(BaseModel):
    """Which jobs, and which page of them."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = Field(default=None, description="Only jobs of this status")
    kind: Name | None = Field(default=None, description="Only jobs of this kind")
    queue: Name | None = Field(default=None, description="Only jobs of this queue")
    limit: Annotated[int, BeforeValidator(plain_number), Field(ge=1, le=PAGE_LIMIT), _LIMIT] = 50
    cursor: Annotated[str, _CURSOR] | None = Field(
        default=None, description="next_cursor of the page before, with the same filters"
    )


class CancelJob(BaseModel):
    """Why the job shall not run; kept with it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "a duplicate"}]})

    reason: Annotated[str, StringConstraints(max_length=500), AfterValidator(_printable), _REASON] | None = (
        None
    )


class Job(BaseModel):
    """A job as it stands. `next_attempt_at` says since when or until when it waits, `waiting_for` for what."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job_id": 17,
                    "kind": "process_conversation_event",
                    "queue": "conversations",
                    "status": "PENDING",
                    "waiting_for": "time",
                    "attempt": 1,
                    "priority": 5,
                    "partition_key": None,
                    "next_attempt_at": "2025-11-25T18:21:00Z",
                    "started_at": None,
                    "expires_at": None,
                    "finished_at": None,
                    "error_class": None,
                    "reason": None,
                    "created_at": "2025-11-25T18:20:01Z",
                    "event_id": "0199f2d0-c0de-7000-a1b2-c3d4e5f60718",
                }
            ]
        }
    )

    job_id: int
    kind: str
    queue: str
    status: Status
    waiting_for: Literal["nothing", "time", "limit", "key", "job", "queue"] | None
    attempt: int
    priority: int
    partition_key: str | None
    next_attempt_at: datetime | None
    started_at: datetime | None
    expires_at: datetime | None = Field(description="When the lease runs out, unless a heartbeat extends it")
    finished_at: datetime | None
    error_class: str | None
    reason: str | None
    created_at: datetime
    event_id: UUID | None


class JobAttempt(BaseModel):
    """A try that did not succeed. Its traceback is for the command line: it may say too much."""

    attempt: int
    verdict: Literal["RETRY", "DEAD", "CANCELLED", "RESCUED"]
    error_class: str
    fingerprint: str | None = Field(description="Equal for failures of one type at one place in the code")
    message: str | None
    worker_name: str | None
    started_at: datetime | None
    finished_at: datetime


class JobDetail(Job):
    """A job with all that belongs to it."""

    crashes: int | None
    worker_name: str | None
    fingerprint: str | None
    payload: Any = Field(description=AS_TEXT)
    policy: Any = Field(description=f"The job's own limits, usually an object or null. {AS_TEXT}")
    context: Any = Field(description=f"Carried along for logs, usually an object or null. {AS_TEXT}")
    queue_paused_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_requested_by: str | None
    cancel_reason: str | None
    progress_percent: float | None = Field(description="How far its newest try said that it is, 0 to 100")
    progress_stage: str | None
    progress_at: datetime | None
    attempts: list[JobAttempt]


class JobPage(BaseModel):
    """Jobs, newest first. `next_cursor` is null on the last page."""

    jobs: list[Job]
    next_cursor: str | None = Field(examples=["AAAAAAAAABGm3uzT3Q0y0Yx8JrY5lq0B"])


class JobResult(BaseModel):
    """What the handler answered; null when it answered nothing, or when the result's time to live is over."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"job_id": 17, "result": {"friendship_score_change": 3.5}}]}
    )

    job_id: int
    result: Any = Field(description=AS_TEXT)


class JobCancel(BaseModel):
    """CANCELLED: it has ended. REQUESTED: it runs, and its worker ends it at the next heartbeat."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"job_id": 17, "cancel": "REQUESTED"}]})

    job_id: int
    cancel: Literal["CANCELLED", "REQUESTED"]


class JobRetry(BaseModel):
    """The dead letter is ready again, its tries counted from 0."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"job_id": 17, "status": "PENDING"}]})

    job_id: int
    status: Literal["PENDING"] = "PENDING"


class JobReason(BaseModel):
    """One reason; `code` is stable, for programs."""

    code: str = Field(examples=["queue-paused"])
    text: str = Field(examples=["queue mail is paused by ann"])
    since: datetime | None
    until: datetime | None


class JobExplanation(BaseModel):
    """Why a job does not run, or how it ended; what matters most first."""

    job_id: int
    reasons: list[JobReason]


class JobEta(BaseModel):
    """When a job is expected to start and end. In 8 of 10 cases the truth lies between `low` and `high`.

    Times are null where nothing can be said; `basis` says why.
    """

    job_id: int
    basis: Literal[
        "rates", "running", "no-samples", "no-worker", "queue-paused", "limit-is-zero", "waits-for-jobs"
    ]
    position: int | None = Field(description="1: the next one; of its own key in a managed queue")
    position_exact: bool | None = Field(description="False: counted to 10,000, then estimated")
    start_at: datetime | None
    start_low: datetime | None
    start_high: datetime | None
    finish_at: datetime | None
    finish_low: datetime | None
    finish_high: datetime | None


class QueueEta(BaseModel):
    """When what waits in a queue now will have been started; times are null where nothing can be said."""

    queue: str
    basis: Literal["rates", "no-samples", "no-worker", "queue-paused", "limit-is-zero"]
    waiting: int
    waiting_exact: bool
    servers: float | None = Field(description="How many of its jobs can run at once")
    mean_seconds: float | None = Field(description="How long its jobs ran on average in the last ten minutes")
    drained_at: datetime | None
    drained_low: datetime | None
    drained_high: datetime | None
