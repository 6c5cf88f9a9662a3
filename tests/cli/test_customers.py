"""`tandem customers`, `tiers`, `prices`: what administrators change at run time, and that all of it is audited."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.command_line import facts, run
from tests.support.conversations import read, write
from tests.support.customers import submit


@pytest.fixture
def database(db_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands find it by DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", db_url)
    return db_url


def test_a_customer_is_made_changed_shown_and_audited(database: str) -> None:
    made = facts("customers", "set", "ann", "tier=premium", "max_running=20", "time_zone=Asia/Ho_Chi_Minh")
    assert (made["tier"], made["max_running"], made["webhook_secret"]) == ("premium", 20, None)
    shown = facts("customers", "show", "ann")
    assert (shown["max_running"], shown["rate_per_minute"], shown["daily_quota"]) == (20, 30, 1000)
    hooked = facts(
        "customers", "set", "ann", "webhook_url=https://hooks.example/", "notify_by=webhook", "max_running="
    )
    assert hooked["webhook_secret"].startswith("whsec_")
    assert facts("customers", "show", "ann")["max_running"] == 5, "the tier's again"
    assert [one["customer_id"] for one in facts("customers", "list", "--tier", "premium")["customers"]] == [
        "ann"
    ]
    changes = facts("customers", "audit", "ann")["changes"]
    assert [one["action"] for one in changes] == ["customer.set", "customer.set"]
    assert changes[0]["before"]["max_running"] == 20
    assert "webhook_secret" not in json.dumps(changes)
    assert run("customers", "audit", "ann")[0] == 0


@pytest.mark.parametrize(
    "values",
    [["tier=gold"], ["max_running=-1"], ["time_zone=Mars/Olympus"], ["colour=red"], ["webhook_url=https://10.0.0.1/"],
     ["notify_by=mail"], ["notify_by=pigeon"], ["language=fr"], ["max_running=many"]],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_changes_nothing(database: str, values: list[str]) -> None:
    facts("customers", "set", "ann", "tier=pro")
    code, _ = run("customers", "set", "ann", *values)
    assert code == 1
    assert facts("customers", "show", "ann")["tier"] == "pro"
    assert len(facts("customers", "audit", "ann")["changes"]) == 1


def test_tiers_and_capacity_change_at_run_time(database: str) -> None:
    assert [one["tier"] for one in facts("tiers", "list")["tiers"]] == ["vip", "premium", "pro", "free"]
    changed = facts("tiers", "set", "free", "daily_quota=1", "longest_wait=600", "overage=blocked")
    assert (changed["daily_quota"], changed["tier"]) == (1, "free")
    asyncio.run(submit(database, "ann", "free"))
    assert run("tiers", "set", "free", "when_full=explode")[0] == 1
    assert run("tiers", "set", "gold", "rank=1")[0] == 1
    assert facts("tiers", "capacity", "7") == {"before": 1000, "capacity": 7}
    assert read(database, "SELECT capacity FROM customer_capacity") == [(7,)]
    assert run("tiers", "list")[1].splitlines()[0].startswith("tier")


def test_prices_are_added_for_the_future_and_invoices_follow(database: str, tmp_path: Path) -> None:
    steps = tmp_path / "prices.json"
    steps.write_text('{"job": [{"up_to": null, "price": "0.5"}]}')
    asyncio.run(submit(database, "ann", "pro"))
    added = facts("prices", "add", "pro", str(steps), "--fee", "10")
    assert added == {"tier": "pro", "version": 2}
    asyncio.run(submit(database, "ann", "pro"))
    [row] = read(database, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AS m")
    month = str(row.m)
    invoice = facts("customers", "invoice", "ann", month)
    assert [(line["what"], line["version"], line["amount"]) for line in invoice["lines"]] == [
        ("fee", 1, "29.00"),
        ("job", 1, "0"),
        ("job", 2, "0.5"),
    ]
    assert invoice["total"] == "29.50"
    assert run("customers", "invoice", "ann", month, "--issue")[0] == 1, "the month is not over"
    assert run("customers", "invoice", "ann", month, "--html")[1].startswith("<!doctype html>")
    past = run("prices", "add", "pro", str(steps), "--valid-from", "2020-01-01T00:00:00+00:00")
    assert past[0] == 1
    steps.write_text('{"job": 1}')
    assert run("prices", "add", "pro", str(steps))[0] == 1
    assert len(facts("prices", "list")["prices"]) == 5


def test_an_invoice_is_issued_once_and_stays(database: str) -> None:
    asyncio.run(submit(database, "ann", "pro", clock_offset="-62 days"))
    [row] = read(
        database, "SELECT to_char(min(occurred_at) AT TIME ZONE 'UTC', 'YYYY-MM') AS m FROM customer_usage"
    )
    first = facts("customers", "invoice", "ann", row.m, "--issue")
    assert first["number"] == 1
    assert first["total"] == "29.00"
    write(database, "UPDATE customers SET name = 'Another'")
    assert facts("customers", "invoice", "ann", row.m, "--issue") == first
    issued = [
        one for one in facts("customers", "audit", "ann")["changes"] if one["action"] == "invoice.issue"
    ]
    assert [one["after"]["total"] for one in issued] == ["29.00"], "audited once, by whoever issued it"
    assert facts("customers", "invoice", "ann", row.m) == first


def test_usage_is_what_the_tier_shows(database: str) -> None:
    asyncio.run(submit(database, "ann", "vip"))
    report = facts("customers", "usage", "ann")
    assert (report["report"], report["totals"]["jobs"]) == ("full", 1)
    assert run("customers", "usage", "nobody")[0] == 1
    assert run("customers", "usage", "ann", "--month", "2026-13")[0] == 1


@pytest.mark.parametrize("command", ["customers list", "customers show", "customers set", "customers usage",
                                     "customers invoice", "customers audit", "tiers list", "tiers set",
                                     "tiers capacity", "prices list", "prices add"])  # fmt: skip
def test_every_command_shows_an_example(command: str) -> None:
    code, text = run(*command.split(), "--help")
    assert code == 0
    assert f"Example: tandem {command}" in " ".join(text.split())
