"""The tier table, cell by cell, as the queue enforces it. Rates: test_api.py; quotas, refusals: test_submission.py."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.database.connect import connect
from app.domains.customers import administration, repository
from app.domains.customers.models import Tier
from tests.support.admission import admit, finish, keys, limit
from tests.support.conversations import read
from tests.support.customers import submit

HALF_HOUR, TWO_HOURS = timedelta(minutes=30), timedelta(hours=2)
TABLE: dict[str, dict[str, Any]] = {
    "vip": {
        "rate_per_minute": 60, "daily_quota": None, "max_running": 10, "when_full": "take", "bypasses_global": True,
        "longest_wait": None, "base_priority": 8, "billing": "fixed-usage", "overage": "discounted",
        "tracking": "full",
    },
    "premium": {
        "rate_per_minute": 30, "daily_quota": 1000, "max_running": 5, "when_full": "wait", "bypasses_global": False,
        "longest_wait": HALF_HOUR, "base_priority": 4, "billing": "tiered", "overage": "standard",
        "tracking": "monthly",
    },
    "pro": {
        "rate_per_minute": 15, "daily_quota": 500, "max_running": 3, "when_full": "wait", "bypasses_global": False,
        "longest_wait": TWO_HOURS, "base_priority": 2, "billing": "fixed-payg", "overage": "standard",
        "tracking": "basic",
    },
    "free": {
        "rate_per_minute": 5, "daily_quota": 100, "max_running": 1, "when_full": "refuse", "bypasses_global": False,
        "longest_wait": None, "base_priority": 1, "billing": "free", "overage": "blocked",
        "tracking": "limited",
    },
}  # fmt: skip


@pytest.fixture
async def queue(db_url: str) -> AsyncIterator[Any]:
    """A connection that claims as a worker does."""
    async with await connect(db_url, name="test") as connection:
        yield connection


async def test_the_table_that_ships_is_the_documents(queue: Any) -> None:
    found: dict[str, Tier] = {tier.tier: tier for tier in await repository.list_tiers(queue)}
    assert set(found) == set(TABLE)
    for name, cells in TABLE.items():
        assert {cell: getattr(found[name], cell) for cell in cells} == cells
        half = found[name].longest_wait
        assert half is None or found[name].ageing_every == half / 2, "x 2 at each half of the longest wait"


@pytest.mark.parametrize("tier", list(TABLE))
async def test_so_many_jobs_of_a_customer_run_at_once(db_url: str, queue: Any, tier: str) -> None:
    most = TABLE[tier]["max_running"]
    for _ in range(most + 2):
        await submit(db_url, "ann", tier)
    running = await admit(queue, 50, "customers")
    assert len(running) == most
    assert await admit(queue, 50, "customers") == []
    await finish(queue, running[:1])
    assert len(await admit(queue, 50, "customers")) == 1, "one ends, the next one starts"


async def test_vip_bypasses_the_global_limit_and_nobody_else_does(db_url: str, queue: Any) -> None:
    await limit(queue, "global", max_running=2)
    for tier in TABLE:
        for _ in range(3):
            await submit(db_url, tier, tier)
    running = keys(await admit(queue, 50, "customers"))
    assert running["vip"] == 3
    assert sum(count for tier, count in running.items() if tier != "vip") == 2
    assert running == {"vip": 3, "premium": 2}, "the highest priority first"
    assert keys(await admit(queue, 50, "customers")) == {}


async def test_a_full_global_limit_does_not_hold_up_vip(db_url: str, queue: Any) -> None:
    await limit(queue, "global", max_running=1)
    await submit(db_url, "p", "premium")
    assert keys(await admit(queue, 50, "customers")) == {"p": 1}
    for _ in range(12):
        await submit(db_url, "v", "vip")
    assert keys(await admit(queue, 50, "customers")) == {"v": 10}, "but its own 10 do"


async def test_a_workflows_limit_exempts_nobody(db_url: str, queue: Any) -> None:
    await limit(queue, "kind:workflow.text-keywords", max_running=2)
    for _ in range(4):
        await submit(db_url, "v", "vip")
    await submit(db_url, "v", "vip", workflow="usage-report", input={})
    running = await admit(queue, 50, "customers")
    assert Counter(job.kind for job in running) == {"workflow.text-keywords": 2, "workflow.usage-report": 1}


async def test_a_personal_limit_overrides_the_tiers(db_url: str, queue: Any) -> None:
    await administration.set_customer(queue, "ann", {"tier": "free", "max_running": 4}, actor="test")
    for _ in range(6):
        await submit(db_url, "ann")
    assert len(await admit(queue, 50, "customers")) == 4
    await administration.set_customer(queue, "ann", {"max_running": 5}, actor="test")
    assert len(await admit(queue, 50, "customers")) == 1, "effective with the next admission"


async def test_a_changed_tier_holds_for_its_customers_at_once(db_url: str, queue: Any) -> None:
    for _ in range(4):
        await submit(db_url, "ann", "pro")
    assert len(await admit(queue, 50, "customers")) == 3
    await administration.set_tier(queue, "pro", {"max_running": 4}, actor="test")
    assert len(await admit(queue, 50, "customers")) == 1


async def test_a_second_job_of_free_waits_below_the_capacity(db_url: str, queue: Any) -> None:
    first, second = await submit(db_url, "ann", "free"), await submit(db_url, "ann", "free")
    [running] = await admit(queue, 50, "customers")
    assert running.id == first.accepted.job_id
    [row] = read(
        db_url, "SELECT status, waiting_for FROM tandem.job_status WHERE job_id = %s", second.accepted.job_id
    )
    assert tuple(row) == ("PENDING", "limit")


async def test_a_higher_tier_goes_first_and_a_critical_job_may_pass_it(db_url: str, queue: Any) -> None:
    for tier in ("free", "pro", "premium", "vip"):
        await submit(db_url, tier, tier)
    await submit(db_url, "urgent", "pro", importance="critical")
    order = []
    for _ in range(5):
        [job] = await admit(queue, 1, "customers")
        order.append(job.partition_key)
    assert order[0] == "vip"
    assert order.index("urgent") < order.index("premium") < order.index("pro") < order.index("free")
