"""What customers send and get. Strict; unknown fields are refused. A workflow's own input stands in workflows.py."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from app.domains.customers.models import Channel, Importance, Language

Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Strict(BaseModel):
    """A body: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SubmitJob(Strict):
    """A job for a workflow. What `input` must hold depends on the workflow."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"input": {"text": "PostgreSQL queues, and why they work", "language": "en"}}]
        },
    )

    input: dict[str, Any]
    importance: Importance = "normal"
    deadline: Annotated[datetime | None, WithJsonSchema({"type": "string", "format": "date-time"})] = Field(
        default=None, description="The priority grows within the hour before it; with a zone"
    )
    revenue_impact: bool = Field(default=False, description="Whether the customer's revenue depends on it")
    notify: bool = Field(default=True, description="Tell the end by the customer's mail or webhook, if any")

    @field_validator("deadline")
    @classmethod
    def _with_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, like 2025-11-25T18:00:00Z")
        return value


class Eta(BaseModel):
    """When a job is expected to start and to end, each with the band that holds 80 % of the outcomes.

    Times are null where nothing can be said: `basis` is then no-samples, no-worker, queue-paused, limit-is-zero or
    waits-for-jobs.
    """

    basis: str
    start_at: datetime | None
    start_low: datetime | None
    start_high: datetime | None
    finish_at: datetime | None
    finish_low: datetime | None
    finish_high: datetime | None


class JobAccepted(BaseModel):
    """The job is in the queue."""

    job_id: int
    workflow: str
    status: Literal["PENDING", "RUNNING", "SUCCEEDED", "DEAD", "CANCELLED"]
    tier: str
    priority: int = Field(description="The band, 0 to 9; 9 is the most urgent")
    overage: bool = Field(description="Whether it goes beyond today's quota and is billed as overage")
    accepted_at: datetime
    wait_until: datetime | None = Field(description="Until when it may wait for its start; null: for ever")
    position: int | None = Field(
        default=None, description="Its place in the queue, 1 starts next; null when unknown"
    )
    eta: Eta | None = Field(
        default=None, description="null when it has ended, in lists, and while it cannot be asked"
    )


class JobState(JobAccepted):
    """Where a job stands."""

    waiting_for: str | None = Field(
        description="nothing, time, limit, key, job or queue; null unless PENDING"
    )
    attempt: int | None
    next_attempt_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    error_class: str | None


class JobList(BaseModel):
    """A page of the customer's jobs, newest first."""

    jobs: list[JobState]
    next_before: int | None = Field(description="`before` of the next page; null on the last one")


class CustomerJobResult(BaseModel):
    """What a job answered."""

    job_id: int
    result: Any


class JobCancelled(BaseModel):
    """CANCELLED: it has ended. REQUESTED: it runs, and its worker is told."""

    job_id: int
    cancel: Literal["CANCELLED", "REQUESTED"]


class Account(BaseModel):
    """A customer with what holds for it now."""

    customer_id: str
    tier: str
    name: str
    time_zone: str
    language: Language
    notify_by: Channel
    email: str | None
    webhook_url: str | None
    max_running: int
    rate_per_minute: int
    daily_quota: int | None
    when_full: str
    longest_wait_seconds: float | None
    used_today: int
    overage_today: int
    quota_resets_in_seconds: float


class ChangeAccount(Strict):
    """What customers may change themselves. Fields that are left out stay."""

    name: Text = ""
    language: Language = "en"
    notify_by: Channel = "none"
    email: Annotated[
        str | None, StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$")
    ] = None
    webhook_url: Annotated[
        str | None, StringConstraints(max_length=2000, pattern=r"^https?://[^\s\x00-\x1f]+$")
    ] = None


class AccountChanged(Account):
    """The account after the change; `webhook_secret` is told once, when the webhook's address changed."""

    webhook_secret: str | None = None


class NotificationState(BaseModel):
    """Something a customer was told."""

    id: str
    topic: str
    job_id: int | None
    channel: Channel
    subject: str
    facts: dict[str, Any]
    created_at: datetime
    sent_at: datetime | None
    failed_at: datetime | None


class Notifications(BaseModel):
    """The latest notifications, newest first."""

    notifications: list[NotificationState]


Month = Annotated[
    date,
    BeforeValidator(
        lambda month: f"{month}-01" if isinstance(month, str) and len(month) == len("2026-11") else month
    ),
    PlainSerializer(lambda first: f"{first:%Y-%m}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$", "examples": ["2026-11"]}),
]
"""The first day of a month, told as the addresses take it: 2026-11."""


class InvoiceLine(BaseModel):
    """One priced step: `quantity` units at `price` each; amounts are exact decimals as text."""

    what: str
    tier: str
    version: int
    quantity: int
    price: Decimal
    amount: Decimal


class Invoice(BaseModel):
    """A month's invoice. `number` is null for a preview, which may still grow."""

    number: int | None
    customer_id: str
    name: str
    month: Month
    currency: str
    lines: list[InvoiceLine]
    total: Decimal
    issued_at: datetime | None


class WorkflowOffer(BaseModel):
    """A workflow that jobs can be submitted for, and what its input must hold."""

    workflow: str
    input: dict[str, Any]


class Workflows(BaseModel):
    """All of them."""

    workflows: list[WorkflowOffer]
