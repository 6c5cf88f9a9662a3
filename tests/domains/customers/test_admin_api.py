"""The administrators' API: changes hold at once, are audited by who made them, and customers have no part in it."""

from typing import Any

import pytest

from tests.support.conversations import read, serving
from tests.support.customers import submit
from tests.support.identities import bearer, guarded_settings, token

ADMIN: dict[str, Any] = {"sub": "root@ops", "roles": ["admin"]}


async def test_administrators_change_everything_and_are_audited(db_url: str) -> None:
    async with serving(db_url, guarded_settings()) as client:
        admin = bearer(token(**ADMIN))
        made = await client.patch("/v1/customers/ann", json={"tier": "pro", "max_running": 7}, headers=admin)
        assert (made.status_code, made.json()["max_running"], made.json()["tier"]) == (200, 7, "pro")
        tier = await client.patch(
            "/v1/tiers/pro", json={"longest_wait": 600, "daily_quota": 9}, headers=admin
        )
        assert (tier.json()["longest_wait"], tier.json()["daily_quota"]) == (600.0, 9)
        prices = {"prices": {"job": [{"up_to": None, "price": "0.5"}]}, "monthly_fee": "5.00"}
        assert (await client.post("/v1/tiers/pro/prices", json=prices, headers=admin)).json()["version"] == 2
        capacity = await client.put("/v1/capacity", json={"capacity": 5}, headers=admin)
        assert capacity.json() == {"before": 1000, "capacity": 5}
        await submit(db_url, "ann")
        assert (await client.get("/v1/customers/ann", headers=admin)).json()["used_today"] == 1
        assert (await client.get("/v1/customers/ann/usage", headers=admin)).json()["report"] == "basic"
        listed = (await client.get("/v1/customers?tier=pro", headers=admin)).json()
        assert [one["customer_id"] for one in listed] == ["ann"]
        assert next(one["tier"] for one in (await client.get("/v1/tiers", headers=admin)).json()) == "vip"
        early = await client.post("/v1/customers/ann/invoices/2999-01", headers=admin)
        assert (early.status_code, early.json()["type"]) == (409, "urn:tandem:problem:month-not-over")
    audit = read(db_url, "SELECT actor, action FROM customer_audit ORDER BY id")
    assert [tuple(row) for row in audit] == [
        ("root@ops", action) for action in ("customer.set", "tier.set", "prices.add", "capacity.set")
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PATCH", "/v1/customers/ann", {"tier": "gold"}, 422),
        ("PATCH", "/v1/customers/ann", {"time_zone": "Mars/Olympus"}, 422),
        ("PATCH", "/v1/customers/ann", {"notify_by": "mail"}, 422),
        ("PATCH", "/v1/customers/ann", {"colour": "red"}, 422),
        ("PATCH", "/v1/tiers/gold", {"weight": 2.0}, 422),
        ("PATCH", "/v1/tiers/pro", {"when_full": "explode"}, 422),
        ("POST", "/v1/tiers/pro/prices", {"prices": {"job": 1}}, 422),
        ("POST", "/v1/tiers/pro/prices", {"prices": {}, "valid_from": "2020-01-01T00:00:00Z"}, 409),
        ("PUT", "/v1/capacity", {"capacity": -1}, 422),
        ("GET", "/v1/customers/nobody", None, 404),
    ],
)
async def test_what_does_not_fit_is_refused_and_changes_nothing(
    db_url: str, method: str, path: str, body: Any, status: int
) -> None:
    async with serving(db_url, guarded_settings()) as client:
        answer = await client.request(method, path, json=body, headers=bearer(token(**ADMIN)))
    assert answer.status_code == status, answer.text
    assert read(db_url, "SELECT 1 AS n FROM customer_audit") == []


async def test_customers_and_auditors_may_not_change_anything(db_url: str) -> None:
    async with serving(db_url, guarded_settings()) as client:
        for role, reads in (("user", 403), ("auditor", 200)):
            caller = bearer(token(roles=[role]))
            assert (await client.get("/v1/tiers", headers=caller)).status_code == reads
            assert (await client.put("/v1/capacity", json={"capacity": 1}, headers=caller)).status_code == 403
