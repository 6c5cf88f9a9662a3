"""From what was used to what is owed: price lists by version, steps by units of the month, exact decimals. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from app.domains.customers.models import PriceList
from app.errors import InvalidInput

CENT: Final = Decimal("0.01")
BILLED: Final = ("job", "overage", "run_ms")
"""What has prices; failed attempts are metered and never billed."""
LARGEST_PRICE: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Use:
    """So much of something, used within the validity of one version of a tier's prices."""

    what: str
    tier: str
    version: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Line:
    """So many units at one price; `amount` is exact, unrounded."""

    what: str
    tier: str
    version: int
    quantity: int
    price: Decimal

    @property
    def amount(self) -> Decimal:
        """Quantity x price."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Step:
    """Units up to `up_to` of the month (None: all further ones) cost `price` each."""

    up_to: int | None
    price: Decimal


def read_steps(prices: Any) -> dict[str, tuple[Step, ...]]:
    """The steps of a price list's JSON. Raises InvalidInput for what is none."""
    if not isinstance(prices, dict) or not set(prices) <= set(BILLED):
        raise _invalid(f"prices are of {', '.join(BILLED)}")
    return {what: tuple(_read_steps(what, steps)) for what, steps in prices.items()}


def _read_steps(what: str, steps: Any) -> Iterator[Step]:
    if not isinstance(steps, list) or not steps:
        raise _invalid(f"{what}: a list of steps, the last one with up_to null")
    below = 0
    for position, step in enumerate(steps):
        if (
            not isinstance(step, dict)
            or set(step) != {"up_to", "price"}
            or not isinstance(step["price"], str)
        ):
            raise _invalid(f'{what}: a step is {{"up_to": units or null, "price": "decimal"}}')
        try:
            price = Decimal(step["price"])
        except ArithmeticError:
            raise _invalid(f"{what}: {step['price'][:20]!r} is no decimal number") from None
        if not price.is_finite() or not 0 <= price <= LARGEST_PRICE:
            raise _invalid(f"{what}: a price is 0 to {LARGEST_PRICE}")
        up_to = step["up_to"]
        last = position == len(steps) - 1
        whole = isinstance(up_to, int) and not isinstance(up_to, bool)
        if (up_to is None) != last or (not last and not (whole and up_to > below)):
            raise _invalid(f"{what}: up_to grows from step to step, and is null on the last one alone")
        below = up_to or below
        yield Step(up_to, price)


def price_uses(uses: Sequence[Use], lists: Iterable[PriceList]) -> list[Line]:
    """Lines for the uses of one month, which come in the order of time.

    Steps count the units of the month, over all versions and tiers: a new list or tier goes on where the last one was.
    What a list has no price for is free. Raises InvalidInput for a use whose list is not there.
    """
    steps = {(one.tier, one.version): read_steps(one.prices) for one in lists}
    used: dict[str, int] = {}
    lines: list[Line] = []
    for use in uses:
        if (use.tier, use.version) not in steps:
            raise _invalid(f"no version {use.version} of the prices of tier {use.tier}")
        before = used.get(use.what, 0)
        used[use.what] = before + use.quantity
        for quantity, price in _split(steps[use.tier, use.version].get(use.what, ()), before, use.quantity):
            lines.append(Line(use.what, use.tier, use.version, quantity, price))
    return lines


def _split(steps: Sequence[Step], before: int, quantity: int) -> Iterator[tuple[int, Decimal]]:
    """The part of `quantity` units, after `before` others, that falls into each step."""
    start, end = before, before + quantity
    for step in steps:
        upper = end if step.up_to is None else min(end, step.up_to)
        if upper > start:
            yield upper - start, step.price
            start = upper


def valid_at(lists: Iterable[PriceList], tier: str, at: datetime) -> PriceList | None:
    """The list of a tier with the latest valid_from that is not after `at`."""
    fitting = [one for one in lists if one.tier == tier and one.valid_from <= at]
    return max(fitting, key=lambda one: one.valid_from, default=None)


def total_of(lines: Iterable[Line], fee: Decimal) -> Decimal:
    """Fee and lines, rounded once at the end: half to even, to the cent."""
    return (fee + sum((line.amount for line in lines), Decimal(0))).quantize(CENT, ROUND_HALF_EVEN)


def _invalid(why: str) -> InvalidInput:
    return InvalidInput("invalid-prices", f"not a price list: {why}")
