"""Rates of requests: never more than allowed, however many ask at once; a refusal says when to ask again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.errors import InvalidInput
from app.queue.rates import RateAnswer, forget_rates, take


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection whose clock stands where `at` puts it."""
    async with await connect(db_url, name="test") as opened:
        yield opened


async def at(connection: BoundedAsyncConnection, seconds: float) -> None:
    """Move this session's clock on."""
    await connection.execute("SELECT set_config('tandem.clock_offset', %s, false)", (f"{seconds} s",))


async def test_a_burst_then_one_by_one(connection: BoundedAsyncConnection) -> None:
    async def ask() -> RateAnswer:
        return await take(connection, "k", limit=60, period=60.0, burst=3)

    answers = [await ask() for _ in range(5)]
    assert [one.allowed for one in answers] == [True, True, True, False, False]
    assert [one.remaining for one in answers] == [2, 1, 0, 0, 0]
    assert 0 < answers[-1].retry_after <= 1.0
    assert 2.0 < answers[-1].reset_after <= 3.0
    await at(connection, 1.5)
    assert [(await ask()).allowed for _ in range(2)] == [True, False]
    await at(connection, 100)
    assert [(await ask()).allowed for _ in range(4)] == [True, True, True, False]


async def test_a_cost_that_does_not_fit_takes_nothing(connection: BoundedAsyncConnection) -> None:
    assert (await take(connection, "k", limit=10, cost=7)).allowed
    refused = await take(connection, "k", limit=10, cost=7)
    assert (refused.allowed, refused.remaining) == (False, 3)
    assert (await take(connection, "k", limit=10, cost=3)).allowed
    assert (await take(connection, "other", limit=10, cost=10)).allowed, "names know nothing of each other"


async def test_many_at_once_never_get_more_than_the_burst(db_url: str) -> None:
    async def client() -> int:
        async with await connect(db_url, name="test") as own:
            return sum([(await take(own, "hot", limit=20, period=3600.0)).allowed for _ in range(10)])

    assert sum(await asyncio.gather(*(client() for _ in range(8)))) == 20


async def test_what_is_rolled_back_was_not_taken(connection: BoundedAsyncConnection) -> None:
    async with connection.transaction(force_rollback=True):
        assert (await take(connection, "k", limit=1)).allowed
    assert (await take(connection, "k", limit=1)).allowed


async def test_rates_that_are_full_again_are_forgotten(connection: BoundedAsyncConnection) -> None:
    for name in ("a", "b", "c"):
        await take(connection, name, limit=1, period=10.0)
    assert await forget_rates(connection, most=10) == 0
    await at(connection, 11)
    assert [await forget_rates(connection, most=2) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 1, "cost": 2}, {"limit": 1, "period": 0.0}, {"limit": 1, "burst": 0}]
)
async def test_refuses_what_makes_no_sense(
    connection: BoundedAsyncConnection, options: dict[str, float]
) -> None:
    with pytest.raises(InvalidInput):
        await take(connection, "k", **options)  # type: ignore[arg-type]
