"""What a handler may return instead of a result, to decide about its job itself.

Returning one is no failure of the handler: nothing is logged as an error, and no traceback is kept.
"""

from dataclasses import dataclass
from math import isfinite

from app.client.job import FURTHEST
from app.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job again in `seconds`; this try does not count."""

    seconds: float
    reason: str = ""

    def __post_init__(self) -> None:
        _check(self.seconds)


@dataclass(frozen=True, slots=True)
class Retry:
    """Count this try as failed and run again `after` seconds; None leaves the delay to the kind's policy.

    The last try allowed by the policy ends as a dead letter all the same.
    """

    after: float | None = None
    reason: str = "the handler asked for another try"

    def __post_init__(self) -> None:
        if self.after is not None:
            _check(self.after)


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the job as CANCELLED."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """End the job as a dead letter, whatever tries are left."""

    reason: str


Decision = Snooze | Retry | Cancel | Dead


def _check(seconds: float) -> None:
    """A time that no calendar has would cost the whole batch in which it is written. Raises InvalidInput."""
    if not isfinite(seconds) or seconds > FURTHEST.total_seconds():
        raise InvalidInput("invalid-delay", f"a delay is at most {FURTHEST.days} days, not {seconds} s")
