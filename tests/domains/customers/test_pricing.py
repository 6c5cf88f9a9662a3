"""Prices: an invoice is the sum of the ledger at the versions that were valid; proved with generated ledgers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domains.customers.models import PriceList
from app.domains.customers.pricing import BILLED, Use, price_uses, read_steps, total_of, valid_at
from app.errors import InvalidInput

START = datetime(2026, 1, 1, tzinfo=UTC)


def prices_of(tier: str, version: int, **prices: list[tuple[int | None, str]]) -> PriceList:
    """A price list from (up to, price) pairs."""
    steps = {what: [{"up_to": up, "price": price} for up, price in told] for what, told in prices.items()}
    return PriceList(tier, version, START + timedelta(days=version), "USD", Decimal(0), steps)


def by_unit(uses: list[Use], lists: list[PriceList]) -> Decimal:
    """The slow truth: every single unit asks for its own price, by its number in the month."""
    steps = {(one.tier, one.version): read_steps(one.prices) for one in lists}
    number: dict[str, int] = {}
    total = Decimal(0)
    for use in uses:
        for _ in range(use.quantity):
            number[use.what] = number.get(use.what, 0) + 1
            own = steps[use.tier, use.version].get(use.what, ())
            total += next(
                (step.price for step in own if step.up_to is None or number[use.what] <= step.up_to),
                Decimal(0),
            )
    return total


amounts = st.decimals(min_value=0, max_value=10, places=4, allow_nan=False, allow_infinity=False).map(str)


@st.composite
def step_lists(draw: st.DrawFn) -> list[tuple[int | None, str]]:
    """Steps with growing limits, the last one open."""
    limits = sorted(draw(st.sets(st.integers(1, 60), max_size=3)))
    return [(limit, draw(amounts)) for limit in limits] + [(None, draw(amounts))]


@st.composite
def months(draw: st.DrawFn) -> tuple[list[Use], list[PriceList]]:
    """A month's uses over two tiers with up to three versions each."""
    lists = [
        prices_of(
            tier, version, **{what: draw(step_lists()) for what in draw(st.sets(st.sampled_from(BILLED)))}
        )
        for tier in ("pro", "vip")
        for version in (1, 2, 3)
    ]
    use = st.builds(
        Use, st.sampled_from(BILLED), st.sampled_from(("pro", "vip")), st.integers(1, 3), st.integers(0, 40)
    )
    return draw(st.lists(use, max_size=8)), lists


@given(months())
def test_the_lines_sum_to_every_single_unit_at_its_own_price(
    month: tuple[list[Use], list[PriceList]],
) -> None:
    uses, lists = month
    lines = price_uses(uses, lists)
    assert sum((line.amount for line in lines), Decimal(0)) == by_unit(uses, lists)
    for what in BILLED:
        priced = sum(line.quantity for line in lines if line.what == what)
        free = sum(
            use.quantity
            for use in uses
            if use.what == what
            and what
            not in next(one.prices for one in lists if (one.tier, one.version) == (use.tier, use.version))
        )
        assert priced + free == sum(use.quantity for use in uses if use.what == what), (
            "no unit is lost or doubled"
        )


@given(months(), st.integers(0, 40))
def test_splitting_a_use_changes_nothing(month: tuple[list[Use], list[PriceList]], at: int) -> None:
    uses, lists = month
    split = []
    for use in uses:
        first = min(at, use.quantity)
        split += [
            Use(use.what, use.tier, use.version, first),
            Use(use.what, use.tier, use.version, use.quantity - first),
        ]
    fee = Decimal("29.00")
    assert total_of(price_uses(split, lists), fee) == total_of(price_uses(uses, lists), fee)


def test_steps_go_on_over_versions_and_tiers() -> None:
    lists = [
        prices_of("pro", 1, job=[(10, "0"), (None, "1")]),
        prices_of("pro", 2, job=[(15, "2"), (None, "3")]),
    ]
    lines = price_uses([Use("job", "pro", 1, 12), Use("job", "pro", 2, 5)], lists)
    assert [(line.version, line.quantity, line.price) for line in lines] == [
        (1, 10, Decimal(0)),
        (1, 2, Decimal(1)),
        (2, 3, Decimal(2)),
        (2, 2, Decimal(3)),
    ]


def test_the_version_with_the_latest_beginning_counts() -> None:
    lists = [prices_of("pro", version) for version in (1, 2, 3)]
    for version, at in ((1, 1.0), (1, 1.9), (2, 2.0), (3, 400.0)):
        found = valid_at(lists, "pro", START + timedelta(days=at))
        assert found is not None
        assert found.version == version
    assert valid_at(lists, "pro", START) is None
    assert valid_at(lists, "free", START + timedelta(days=9)) is None


def test_a_total_is_rounded_once_half_to_even() -> None:
    lists = [prices_of("pro", 1, job=[(None, "0.005")])]
    assert total_of(price_uses([Use("job", "pro", 1, 1)], lists), Decimal(0)) == Decimal("0.00")
    assert total_of(price_uses([Use("job", "pro", 1, 3)], lists), Decimal(0)) == Decimal("0.02")


@pytest.mark.parametrize(
    "prices",
    [
        [],
        {"jobs": []},
        {"job": []},
        {"job": [{"up_to": 5, "price": "1"}]},
        {"job": [{"up_to": None, "price": "1"}, {"up_to": None, "price": "1"}]},
        {"job": [{"up_to": 5, "price": "1"}, {"up_to": 5, "price": "1"}, {"up_to": None, "price": "1"}]},
        {"job": [{"up_to": True, "price": "1"}, {"up_to": None, "price": "1"}]},
        {"job": [{"up_to": None, "price": 1}]},
        {"job": [{"up_to": None, "price": "-1"}]},
        {"job": [{"up_to": None, "price": "NaN"}]},
        {"job": [{"up_to": None, "price": "one"}]},
        {"job": [{"up_to": None, "price": "1", "more": 1}]},
    ],
)
def test_what_is_no_price_list_is_refused(prices: object) -> None:
    with pytest.raises(InvalidInput, match="not a price list"):
        read_steps(prices)


def test_a_use_without_its_list_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no version 2 of the prices of tier pro"):
        price_uses([Use("job", "pro", 2, 1)], [prices_of("pro", 1)])
