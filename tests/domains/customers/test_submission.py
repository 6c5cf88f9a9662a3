"""Submitting: what is accepted, counted and refused, exactly, and what one transaction holds."""

import asyncio
from collections import Counter

import pytest

from app.errors import InvalidInput, TooMany
from tests.support.conversations import read, write
from tests.support.customers import set_tier, submit

LEDGER = "SELECT customer_id, job_id, token, what, tier, quantity FROM customer_usage ORDER BY id"


async def test_a_job_its_row_and_its_line_of_the_ledger_are_one_transaction(db_url: str) -> None:
    made = await submit(db_url, "ann", "pro")
    [row] = read(db_url, "SELECT job_id, customer_id, tier, workflow, counted, overage FROM customer_jobs")
    assert tuple(row) == (made.accepted.job_id, "ann", "pro", "text-keywords", True, False)
    [job] = read(db_url, "SELECT kind, queue, partition_key, priority, payload FROM tandem.job")
    assert (job.kind, job.queue, job.partition_key) == ("workflow.text-keywords", "customers", "ann")
    assert job.payload["tier"] == "pro"
    assert [tuple(one) for one in read(db_url, LEDGER)] == [("ann", made.accepted.job_id, 0, "job", "pro", 1)]


async def test_a_customer_is_made_at_first_sight_and_the_token_decides_its_tier(db_url: str) -> None:
    await submit(db_url, "ann")
    assert read(db_url, "SELECT tier FROM customers") == [("free",)]
    await submit(db_url, "ann", "premium")
    await submit(db_url, "ann")
    assert read(db_url, "SELECT tier FROM customers") == [("premium",)], (
        "a token without a tier changes nothing"
    )
    history = read(db_url, "SELECT tier FROM customer_tier_history ORDER BY since")
    assert [row.tier for row in history] == ["free", "premium"]
    [audit] = read(db_url, "SELECT actor, action, target, before, after FROM customer_audit")
    assert tuple(audit) == ("token", "customer.tier", "ann", {"tier": "free"}, {"tier": "premium"})
    with pytest.raises(InvalidInput, match="no tier 'gold'"):
        await submit(db_url, "bob", "gold")
    with pytest.raises(InvalidInput, match="no tier 'gold'"):
        await submit(db_url, "ann", "gold")


async def test_the_quota_is_exact_under_rivals_and_a_refusal_counts_nothing(db_url: str) -> None:
    set_tier(db_url, "free", daily_quota=5)
    await submit(db_url, "ann", "free")
    tried = await asyncio.gather(*(submit(db_url, "ann", "free") for _ in range(12)), return_exceptions=True)
    codes = Counter(one.code if isinstance(one, TooMany) else type(one).__name__ for one in tried)
    assert codes == {"quota-exceeded": 8, "Submitted": 4}
    assert read(db_url, "SELECT accepted, overage FROM customer_quota_days") == [(5, 0)]
    assert len(read(db_url, LEDGER)) == 5


async def test_premium_goes_on_over_its_quota_and_is_billed_as_overage(db_url: str) -> None:
    set_tier(db_url, "premium", daily_quota=2)
    made = [await submit(db_url, "ann", "premium") for _ in range(4)]
    assert [one.accepted.overage for one in made] == [False, False, True, True]
    assert [row.what for row in read(db_url, LEDGER)] == ["job", "job", "overage", "overage"]
    assert read(db_url, "SELECT accepted, overage FROM customer_quota_days") == [(4, 2)]


async def test_the_day_is_that_of_the_customers_time_zone(db_url: str) -> None:
    await submit(db_url, "ann", "free")
    write(db_url, "UPDATE customers SET time_zone = 'Pacific/Kiritimati'")
    await submit(db_url, "ann", "free", clock_offset="0")
    days = read(
        db_url,
        "SELECT day, (clock_timestamp() AT TIME ZONE 'Pacific/Kiritimati')::date AS there"
        " FROM customer_quota_days ORDER BY day DESC LIMIT 1",
    )
    assert days[0].day == days[0].there
    await submit(db_url, "ann", "free", clock_offset="24 hours")
    [last] = read(db_url, "SELECT accepted FROM customer_quota_days ORDER BY day DESC LIMIT 1")
    assert last.accepted == 1, "a new day begins at 1"


async def test_a_quota_refusal_says_when_the_next_day_begins(db_url: str) -> None:
    set_tier(db_url, "free", daily_quota=1)
    await submit(db_url, "ann", "free")
    with pytest.raises(TooMany) as refused:
        await submit(db_url, "ann", "free", language="vi")
    headers = refused.value.detail["headers"]
    assert 0 < int(headers["Retry-After"]) <= 86_400
    assert headers["RateLimit-Policy"] == '"day";q=1;w=86400'
    assert headers["Content-Language"] == "vi"
    assert "hạn mức" in refused.value.message


async def test_free_is_refused_when_full_and_the_others_are_not(db_url: str) -> None:
    write(db_url, "UPDATE customer_capacity SET capacity = 3")
    for customer in ("a", "b", "c"):
        await submit(db_url, customer, "free")
    with pytest.raises(TooMany, match="busy") as refused:
        await submit(db_url, "d", "free")
    assert refused.value.code == "system-busy"
    assert refused.value.detail["headers"]["Retry-After"] == "30"
    for customer, tier in (("p", "premium"), ("q", "pro"), ("v", "vip")):
        await submit(db_url, customer, tier)


async def test_vip_does_not_count_against_the_capacity(db_url: str) -> None:
    write(db_url, "UPDATE customer_capacity SET capacity = 1")
    for _ in range(3):
        await submit(db_url, "v", "vip")
    await submit(db_url, "f", "free")
    with pytest.raises(TooMany, match="busy"):
        await submit(db_url, "g", "free")


async def test_the_last_place_is_given_once(db_url: str) -> None:
    write(db_url, "UPDATE customer_capacity SET capacity = 4")
    tried = await asyncio.gather(
        *(submit(db_url, f"c{n}", "free") for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(one, TooMany) for one in tried) == 6
    assert read(db_url, "SELECT count(*) AS n FROM customer_jobs") == [(4,)]


async def test_a_repeated_key_answers_the_first_job_and_uses_no_quota(db_url: str) -> None:
    tried = await asyncio.gather(*(submit(db_url, "ann", "pro", key="k1") for _ in range(5)))
    assert len({one.accepted.job_id for one in tried}) == 1
    assert sum(one.created for one in tried) == 1
    assert read(db_url, "SELECT accepted FROM customer_quota_days") == [(1,)]
    with pytest.raises(InvalidInput) as reused:
        await submit(db_url, "ann", "pro", key="k1", importance="urgent")
    assert reused.value.code == "idempotency-key-reused"
    assert (await submit(db_url, "bob", "pro", key="k1")).created, "keys belong to a customer"


async def test_warnings_come_once_at_80_and_95_percent_and_then_an_upgrade_is_suggested(db_url: str) -> None:
    set_tier(db_url, "free", daily_quota=20)
    for day in range(3):
        for _ in range(20):
            await submit(db_url, "ann", "free", clock_offset=f"{day} days")
    told = read(db_url, "SELECT topic, facts, channel FROM customer_notifications ORDER BY created_at, id")
    warnings = [(row.facts["percent"], row.facts["accepted"]) for row in told if row.topic == "quota-warning"]
    assert warnings == [(80, 16), (95, 19)] * 3
    [suggested] = [row for row in told if row.topic == "upgrade-suggested"]
    assert suggested.facts == {"tier": "pro", "offered": 500, "days": 3}
    assert {row.channel for row in told} == {"none"}


async def test_the_band_follows_tier_and_importance(db_url: str) -> None:
    found = {}
    for tier in ("vip", "premium", "pro", "free"):
        for importance in ("normal", "urgent", "critical"):
            made = await submit(db_url, tier, tier, importance=importance)
            found[tier, importance] = made.band
    assert [found[tier, "normal"] for tier in ("vip", "premium", "pro", "free")] == [3, 2, 1, 0]
    assert [found["pro", one] for one in ("normal", "urgent", "critical")] == [1, 2, 3]
