"""What a customer may see of its usage: full, monthly, basic or limited, as its tier's tracking says. Real time."""

from datetime import date
from typing import Any

import psycopg

from app.domains.customers import repository
from app.domains.customers.billing import read_month
from app.domains.customers.errors import unknown_customer
from app.domains.customers.models import Terms
from app.domains.customers.workflows import Order, ReportOrder

Connection = psycopg.AsyncConnection[Any]


async def report_usage(connection: Connection, terms: Terms, month: date | None = None) -> dict[str, Any]:
    """The report of a month (default: the present one in the customer's time zone), as JSON values.

    limited: today's count. basic: and the month's totals. monthly: and the totals by workflow. full: and by day,
    workflow and outcome, with failed attempts and run time.
    """
    customer, tracking = terms.customer, terms.tier.tracking
    today = await repository.read_quota_day(connection, customer)
    month = month or today.day.replace(day=1)
    report: dict[str, Any] = {
        "customer_id": customer.customer_id,
        "tier": terms.tier.tier,
        "report": tracking,
        "today": {
            "day": today.day.isoformat(),
            "accepted": today.accepted,
            "overage": today.overage,
            "quota": terms.daily_quota,
        },
    }
    if tracking == "limited":
        return report
    rows = await repository.report_uses(connection, customer.customer_id, month, time_zone=customer.time_zone)
    report |= {"month": f"{month:%Y-%m}", "totals": _sum(rows)}
    if tracking in ("monthly", "full"):
        names = sorted({row["workflow"] for row in rows})
        report["workflows"] = {name: _sum([row for row in rows if row["workflow"] == name]) for name in names}
    if tracking == "full":
        days = sorted({row["day"] for row in rows})
        report["days"] = [
            {"day": day.isoformat(), **_sum([row for row in rows if row["day"] == day])} for day in days
        ]
        report["outcomes"] = await repository.report_outcomes(
            connection, customer.customer_id, month, time_zone=customer.time_zone
        )
    return report


def _sum(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Totals by what was used; attempts are counted beside their run time."""
    by = {
        what: [row for row in rows if row["what"] == what]
        for what in ("job", "overage", "run_ms", "failed_ms")
    }
    return {
        "jobs": sum(row["quantity"] for row in by["job"] + by["overage"]),
        "overage": sum(row["quantity"] for row in by["overage"]),
        "succeeded": sum(row["entries"] for row in by["run_ms"]),
        "run_ms": sum(row["quantity"] for row in by["run_ms"]),
        "failed_attempts": sum(row["entries"] for row in by["failed_ms"]),
    }


async def report_for_job(order: Order, connection: Connection | None) -> dict[str, Any]:
    """The workflow `usage-report`. Raises NotFound for a customer that is gone."""
    assert connection is not None  # noqa: S101 - the workflow reads
    terms = await repository.read_terms(connection, order.customer_id)
    if terms is None:
        if order.customer_id.startswith("~"):
            return {"customer_id": order.customer_id, "report": "canary"}
        raise unknown_customer(order.customer_id)
    given: ReportOrder = order.input
    return await report_usage(connection, terms, read_month(given.month) if given.month else None)
