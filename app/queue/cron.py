"""Cron expressions and their ticks: when a schedule fires. Calendar only; the rows are in schedules.py.

The arithmetic is cronsim's, which follows Debian's cron: in the hour that a time zone skips or repeats a job at a fixed
time runs once, and one that runs every so often follows the clock on the wall.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from app.errors import InvalidInput
from app.queue.job import NewJob

Missed = Literal["coalesce", "catch_up"]
NICKNAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_WINDOWS = tuple(timedelta(days=days) for days in (1 / 24, 1, 32, 400, 30 * 366))


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is enqueued at which ticks. Raises InvalidInput.

    `cron` has the five fields of crontab(5), or is @hourly, @daily, @weekly, @monthly, @yearly; `timezone` is a name of
    the IANA database. After an outage `coalesce` fires the latest missed tick alone, `catch_up` all of them, the oldest
    first. With `overlap=False` a tick makes no job while the job of an earlier one has not ended.
    """

    name: str
    cron: str
    kind: str
    payload: Any = field(default_factory=dict)
    queue: str = "default"
    timezone: str = "UTC"
    priority: int = 5
    partition_key: str | None = None
    missed: Missed = "coalesce"
    overlap: bool = True

    def __post_init__(self) -> None:
        check_expression(self.cron, self.timezone)
        if self.missed not in get_args(Missed):
            raise InvalidInput("invalid-missed", f"missed is one of {', '.join(get_args(Missed))}")
        self.job().body()
        NewJob(self.name)  # a schedule is named like a kind

    def job(self) -> NewJob:
        """The job of a tick."""
        return NewJob(
            self.kind,
            self.payload,
            queue=self.queue,
            priority=self.priority,
            partition_key=self.partition_key,
        )


def check_expression(cron: str, timezone: str) -> None:
    """Raise InvalidInput for an expression or a time zone that is none, and for one that never fires."""
    zone(timezone)
    if next(ticks(cron, timezone, datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
        raise InvalidInput("invalid-cron", f"cron expression {cron!r} never fires")


def next_tick(cron: str, timezone: str, after: datetime) -> datetime:
    """The first tick later than `after`, in UTC. Raises InvalidInput."""
    return next(ticks(cron, timezone, after))


def ticks(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """All ticks later than `after`, in UTC. Raises InvalidInput."""
    text = NICKNAMES.get(cron.strip().lower(), cron)
    if len(text.split()) != 5:
        raise InvalidInput(
            "invalid-cron",
            f"cron expression {cron!r} does not have five fields (minute hour day month weekday); nor is it one of"
            f" {', '.join(NICKNAMES)}",
        )
    try:
        simulated = CronSim(text, after.astimezone(zone(timezone)))
    except (CronSimError, ValueError) as error:
        raise InvalidInput("invalid-cron", f"cron expression {cron!r}: {error}") from None
    # In a repeated hour the simulation, which knows wall time only, may begin with ticks that have passed.
    return (found for tick in simulated if (found := tick.astimezone(UTC)) > after)


def missed_ticks(cron: str, timezone: str, first: datetime, now: datetime, *, most: int) -> list[datetime]:
    """The ticks in [first, now], the oldest ones, at most `most`."""
    found: list[datetime] = []
    for tick in ticks(cron, timezone, first - timedelta(microseconds=1)):
        if tick > now or len(found) == most:
            break
        found.append(tick)
    return found


def latest_tick(cron: str, timezone: str, first: datetime, now: datetime) -> datetime:
    """The latest tick in [first, now], where `first` is one; looks back in growing windows, so it is quick."""
    for window in _WINDOWS:
        start = max(first - timedelta(microseconds=1), now - window)
        latest = deque(takewhile(lambda tick: tick <= now, ticks(cron, timezone, start)), maxlen=1)
        if latest:
            return latest[0]
    return first


@cache
def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            "invalid-timezone", f"time zone {name!r} is unknown: write it like UTC or Europe/Berlin"
        ) from None
