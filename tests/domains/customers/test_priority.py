"""The priority formula, factor by factor, and its bands."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domains.customers.priority import Circumstances, Factors, band_of, priority_of

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
PLAIN = Circumstances(
    base=2.0,
    importance="normal",
    succeeded=0,
    ended=0,
    deadline=None,
    light=False,
    hour=3,
    revenue=False,
    waited=timedelta(0),
    ageing_every=timedelta(hours=1),
    now=NOW,
)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 1.0),
        ({"importance": "urgent"}, 2.0),
        ({"importance": "critical"}, 4.0),
        ({"succeeded": 19, "ended": 20}, 1.2),
        ({"succeeded": 18, "ended": 20}, 1.0),
        ({"succeeded": 15, "ended": 20}, 0.8),
        ({"succeeded": 0, "ended": 19}, 1.0),
        ({"deadline": NOW + timedelta(hours=2)}, 1.0),
        ({"deadline": NOW + timedelta(minutes=30)}, 2.5),
        ({"deadline": NOW}, 4.0),
        ({"deadline": NOW - timedelta(days=1)}, 4.0),
        ({"light": True, "hour": 10}, 1.25),
        ({"light": True, "hour": 3}, 1.0),
        ({"light": False, "hour": 10}, 1.0),
        ({"revenue": True}, 1.5),
        ({"waited": timedelta(minutes=59)}, 1.0),
        ({"waited": timedelta(minutes=60)}, 2.0),
        ({"waited": timedelta(hours=2)}, 4.0),
        ({"importance": "urgent", "revenue": True, "waited": timedelta(hours=1)}, 6.0),
    ],
)
def test_each_factor_is_the_documents(changes: dict[str, object], factor: float) -> None:
    assert priority_of(replace(PLAIN, **changes), Factors()) == pytest.approx(2.0 * factor)  # type: ignore[arg-type]


def test_the_factors_are_configurable() -> None:
    one = replace(PLAIN, importance="urgent", revenue=True)
    assert priority_of(one, Factors(urgent=10.0, revenue=3.0)) == pytest.approx(60.0)


def test_bases_are_bands_and_each_doubling_is_one_more() -> None:
    assert [band_of(base) for base in (1, 2, 4, 8)] == [0, 1, 2, 3]
    assert (band_of(0.1), band_of(1e9)) == (0, 9)


@given(st.floats(0.01, 1e6))
def test_the_bands_never_fall_when_the_priority_grows(priority: float) -> None:
    assert (
        band_of(priority)
        <= band_of(priority * 1.01)
        <= band_of(priority * 2)
        <= min(9, band_of(priority) + 1)
        or band_of(priority) == 0
    )
