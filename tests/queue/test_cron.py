"""The calendar of cron: which ticks there are, also where a time zone skips or repeats an hour. No database."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from app.errors import ConfigurationError, InvalidInput
from app.queue.cron import Schedule, latest_tick, missed_ticks, next_tick, ticks
from app.queue.kinds import Registry

START = datetime(2026, 1, 1, tzinfo=UTC)


def first(cron: str, count: int, *, timezone: str = "UTC", after: datetime = START) -> list[str]:
    """The next ticks as text."""
    return [tick.strftime("%Y-%m-%dT%H:%M") for tick in islice(ticks(cron, timezone, after), count)]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/15 * * * *", ["2026-01-01T00:15", "2026-01-01T00:30"]),
        ("0 9 * * 1", ["2026-01-05T09:00", "2026-01-12T09:00"]),  # a Monday, as crontab(5) counts
        ("0 9 * * 0", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        ("0 9 * * mon-fri", ["2026-01-01T09:00", "2026-01-02T09:00"]),
        ("0 0 13 * 5", ["2026-01-02T00:00", "2026-01-09T00:00"]),  # the 13th or a Friday
        ("0 12 L * *", ["2026-01-31T12:00", "2026-02-28T12:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("@weekly", ["2026-01-04T00:00", "2026-01-11T00:00"]),
    ],
)
def test_expressions_mean_what_crontab_says(cron: str, expected: list[str]) -> None:
    assert first(cron, 2) == expected


def test_a_tick_at_the_very_moment_is_past() -> None:
    at = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)
    assert next_tick("0 3 * * *", "UTC", at) == at + timedelta(days=1)
    assert next_tick("0 3 * * *", "UTC", at - timedelta(microseconds=1)) == at


def test_a_time_that_the_clocks_skip_is_made_up_for_once() -> None:
    """Berlin, 29 March 2026: 02:00 is 03:00."""
    after = datetime(2026, 3, 27, 12, tzinfo=UTC)
    assert first("30 2 * * *", 4, timezone="Europe/Berlin", after=after) == [
        "2026-03-28T01:30",
        "2026-03-29T01:00",
        "2026-03-30T00:30",
        "2026-03-31T00:30",
    ]


def test_a_time_that_the_clocks_repeat_comes_once() -> None:
    """Berlin, 25 October 2026: 03:00 is 02:00 again."""
    after = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert first("30 2 * * *", 3, timezone="Europe/Berlin", after=after) == [
        "2026-10-25T00:30",
        "2026-10-26T01:30",
        "2026-10-27T01:30",
    ]
    for minute in range(0, 180, 7):  # wherever in the repeated hour one asks
        asked = datetime(2026, 10, 25, 0, 31, tzinfo=UTC) + timedelta(minutes=minute)
        assert next_tick("30 2 * * *", "Europe/Berlin", asked) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_what_runs_every_so_often_runs_in_both_repeated_hours_and_not_in_the_skipped_one() -> None:
    autumn = first(
        "*/30 * * * *", 6, timezone="Europe/Berlin", after=datetime(2026, 10, 24, 23, 59, tzinfo=UTC)
    )
    assert autumn == [f"2026-10-25T{hour:02}:{minute}" for hour in (0, 1, 2) for minute in ("00", "30")]
    spring = first("0 * * * *", 3, timezone="Europe/Berlin", after=datetime(2026, 3, 28, 23, 59, tzinfo=UTC))
    assert spring == ["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]


@pytest.mark.parametrize(
    "timezone", ["Asia/Ho_Chi_Minh", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
)
@pytest.mark.parametrize("cron", ["*/20 * * * *", "30 1,2 * * *", "0 0 1 * *"])
def test_ticks_only_grow_and_asking_anew_gives_the_same(timezone: str, cron: str) -> None:
    whole = list(islice(ticks(cron, timezone, START), 200))
    assert whole == sorted(set(whole))
    assert [next_tick(cron, timezone, tick) for tick in whole[:-1]] == whole[1:]


@pytest.mark.parametrize("cron", ["* * * * *", "0 3 * * *", "0 0 1 * *", "0 0 29 2 *", "15 9 * * 1"])
@pytest.mark.parametrize("gap", [timedelta(minutes=3), timedelta(hours=30), timedelta(days=900)])
def test_the_latest_missed_tick_is_the_last_of_all_missed_ones(cron: str, gap: timedelta) -> None:
    begin = next_tick(cron, "Europe/Berlin", START)
    now = begin + gap
    expected = missed_ticks(cron, "Europe/Berlin", begin, now, most=2_000_000)[-1] if gap.days < 900 else None
    found = latest_tick(cron, "Europe/Berlin", begin, now)
    assert found == (expected or found)
    assert found <= now < next_tick(cron, "Europe/Berlin", found)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"cron": "* * * *"}, "invalid-cron"),
        ({"cron": "* * * * * *"}, "invalid-cron"),
        ({"cron": "61 * * * *"}, "invalid-cron"),
        ({"cron": "0 0 30 2 *"}, "invalid-cron"),
        ({"cron": "@reboot"}, "invalid-cron"),
        ({"timezone": "Europe/Atlantis"}, "invalid-timezone"),
        ({"timezone": "../etc/passwd"}, "invalid-timezone"),
        ({"missed": "skip"}, "invalid-missed"),
        ({"priority": 10}, "invalid-priority"),
        ({"queue": "No"}, "invalid-queue"),
        ({"payload": {"n": float("nan")}}, "invalid-payload"),
    ],
)
def test_what_is_wrong_is_said_when_a_schedule_is_made(options: dict[str, object], code: str) -> None:
    parts: dict[str, object] = {"name": "one", "cron": "@daily", "kind": "report", **options}
    with pytest.raises(InvalidInput) as refused:
        Schedule(**parts)  # type: ignore[arg-type]
    assert refused.value.code == code


def test_a_registry_takes_a_name_once_and_hands_its_schedules_on() -> None:
    registry, other = Registry(), Registry()
    made = registry.cron("nightly", "0 3 * * *", kind="report", timezone="Europe/Berlin")
    with pytest.raises(ConfigurationError):
        registry.cron("nightly", "@daily", kind="report")
    other.include(registry)
    assert other.schedules == [made]
    with pytest.raises(ConfigurationError):
        other.include(registry)
