"""What the tables of this application hold, as plain immutable values. No SQL, no HTTP."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

WhenFull = Literal["take", "wait", "refuse"]
Overage = Literal["discounted", "standard", "blocked"]
Tracking = Literal["full", "monthly", "basic", "limited"]
Importance = Literal["normal", "urgent", "critical"]
Language = Literal["en", "vi"]
Channel = Literal["none", "mail", "webhook"]


@dataclass(frozen=True, slots=True)
class Tier:
    """A row of the tier table: everything that differs from tier to tier."""

    tier: str
    rank: int
    rate_per_minute: int
    daily_quota: int | None
    max_running: int
    weight: float
    bypasses_global: bool
    when_full: WhenFull
    longest_wait: timedelta | None
    ageing_every: timedelta
    base_priority: float
    billing: str
    overage: Overage
    tracking: Tracking


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer; the four overrides are None where the tier decides."""

    customer_id: str
    tier: str
    name: str
    time_zone: str
    language: Language
    notify_by: Channel
    email: str | None
    webhook_url: str | None
    max_running: int | None
    rate_per_minute: int | None
    daily_quota: int | None
    weight: float | None
    recent_succeeded: int
    recent_ended: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for one customer now: the tier's values with the customer's own over them."""

    customer: Customer
    tier: Tier

    @property
    def max_running(self) -> int:
        """Jobs at once."""
        own = self.customer.max_running
        return self.tier.max_running if own is None else own

    @property
    def rate_per_minute(self) -> int:
        """Requests a minute."""
        return self.customer.rate_per_minute or self.tier.rate_per_minute

    @property
    def daily_quota(self) -> int | None:
        """Accepted jobs a day; None: unlimited."""
        own = self.customer.daily_quota
        return self.tier.daily_quota if own is None else own

    @property
    def weight(self) -> float:
        """Share of the workers relative to other customers."""
        return self.customer.weight or self.tier.weight


@dataclass(frozen=True, slots=True)
class Accepted:
    """The row of an accepted job, as its owner sees it."""

    job_id: int
    customer_id: str
    tier: str
    workflow: str
    importance: Importance
    overage: bool
    deadline: datetime | None
    wait_until: datetime | None
    priority: float
    accepted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    error_class: str | None
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class QuotaDay:
    """How much of a day's quota is used, this job included."""

    day: date
    accepted: int
    overage: int
    resets_in: float
    at: datetime


@dataclass(frozen=True, slots=True)
class PriceList:
    """A version of a tier's prices; `prices` maps what was used to steps of (up to, price)."""

    tier: str
    version: int
    valid_from: datetime
    currency: str
    monthly_fee: Any
    prices: dict[str, list[dict[str, Any]]]
