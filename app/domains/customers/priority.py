"""The dynamic priority: base x factors, and its mapping to the queue's bands 0 to 9. Pure.

Product page, section 3, point 4.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor, log2

from app.domains.customers.models import Importance

HIGHEST_BAND = 9


@dataclass(frozen=True, slots=True)
class Factors:
    """Every number of the formula; settings change them (TANDEM_CUSTOMERS__PRIORITY)."""

    urgent: float = 2.0
    critical: float = 4.0
    stable: float = 1.2
    unstable: float = 0.8
    stable_share: float = 0.95
    unstable_share: float = 0.80
    least_ended: int = 20
    """Jobs that must have ended within 30 days before history says anything."""
    deadline: float = 4.0
    deadline_seconds: float = 3600.0
    light: float = 1.25
    peak_from_hour: int = 8
    peak_to_hour: int = 18
    revenue: float = 1.5
    ageing: float = 2.0
    most_ageings: int = 8


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of one job now. `hour` is that of the customer's clock; times are of one clock."""

    base: float
    importance: Importance
    succeeded: int
    ended: int
    deadline: datetime | None
    light: bool
    hour: int
    revenue: bool
    waited: timedelta
    ageing_every: timedelta
    now: datetime


def priority_of(one: Circumstances, factors: Factors) -> float:
    """Base x importance x history x deadline x weight in peak time x business impact x ageing; always > 0."""
    return (
        one.base
        * {"normal": 1.0, "urgent": factors.urgent, "critical": factors.critical}[one.importance]
        * _history(one, factors)
        * _deadline(one, factors)
        * (factors.light if one.light and _is_peak(one.hour, factors) else 1.0)
        * (factors.revenue if one.revenue else 1.0)
        * _ageing(one, factors)
    )


def band_of(priority: float) -> int:
    """The band: each doubling of the priority is one band, 1 is band 0, rounded to the nearest, within 0 to 9."""
    return max(0, min(HIGHEST_BAND, floor(log2(priority) + 0.5)))


def _history(one: Circumstances, factors: Factors) -> float:
    """A customer of whom too little is known is neither stable nor unstable."""
    if one.ended < factors.least_ended:
        return 1.0
    share = one.succeeded / one.ended
    if share >= factors.stable_share:
        return factors.stable
    return factors.unstable if share < factors.unstable_share else 1.0


def _deadline(one: Circumstances, factors: Factors) -> float:
    """1 until the last hour, then growing evenly to its most at the deadline; the most after it."""
    if one.deadline is None:
        return 1.0
    left = (one.deadline - one.now).total_seconds()
    passed = min(1.0, max(0.0, 1.0 - left / factors.deadline_seconds))
    return 1.0 + (factors.deadline - 1.0) * passed


def _is_peak(hour: int, factors: Factors) -> bool:
    return factors.peak_from_hour <= hour < factors.peak_to_hour


def _ageing(one: Circumstances, factors: Factors) -> float:
    """Doubles at each `ageing_every`: half of the tier's longest wait."""
    times = max(0, one.waited // one.ageing_every)
    return float(factors.ageing ** min(times, factors.most_ageings))
