"""The statements of this application: one function per file in sql/queries/customers, same name. Decides nothing.

All go through psycopg: API, workers, sweeper and commands send the same ones in transactions of their own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import dict_row, tuple_row

from app.domains.customers.models import Accepted, Customer, PriceList, QuotaDay, Terms, Tier
from app.domains.customers.schemas import Invoice
from app.queue.store import statement

Connection = psycopg.AsyncConnection[Any]
Row = dict[str, Any]
AREA: Final = "customers"
_CUSTOMER_COLUMNS: Final = len(Customer.__dataclass_fields__)


async def _rows(connection: Connection, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(statement(AREA, name), params, prepare=True)
    return await cursor.fetchall()


async def _named(connection: Connection, name: str, params: Mapping[str, Any]) -> list[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statement(AREA, name), params, prepare=True)
    return await cursor.fetchall()


async def _do(connection: Connection, name: str, params: Mapping[str, Any]) -> int:
    cursor = connection.cursor()
    await cursor.execute(statement(AREA, name), params, prepare=True)
    return cursor.rowcount


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


# --- customers and tiers -----------------------------------------------------------------------------------


async def read_terms(connection: Connection, customer_id: str) -> Terms | None:
    """The customer with its tier."""
    return _terms(await _rows(connection, "read_terms", {"customer_id": customer_id}))


async def lock_terms(connection: Connection, customer_id: str) -> Terms | None:
    """The same, the customer's row held until the transaction ends."""
    return _terms(await _rows(connection, "lock_terms", {"customer_id": customer_id}))


def _terms(rows: Sequence[tuple[Any, ...]]) -> Terms | None:
    if not rows:
        return None
    return Terms(Customer(*rows[0][:_CUSTOMER_COLUMNS]), Tier(*rows[0][_CUSTOMER_COLUMNS:]))


async def add_customer(connection: Connection, customer_id: str, tier: str) -> bool:
    """Make a customer; False when it is there already, or the tier is not."""
    return bool(await _rows(connection, "add_customer", {"customer_id": customer_id, "tier": tier}))


async def change_customer(
    connection: Connection, customer: Customer, *, webhook_secret: str | None = None
) -> None:
    """Write a customer whole; its secret stays unless a new one is given."""
    await _do(connection, "change_customer", {**asdict(customer), "webhook_secret": webhook_secret})


async def list_customers(
    connection: Connection, *, after: str, tier: str | None, most: int
) -> list[Customer]:
    """A page of customers by id."""
    rows = await _rows(connection, "list_customers", {"after": after, "tier": tier, "most": most})
    return [Customer(*row) for row in rows]


async def list_tiers(connection: Connection) -> list[Tier]:
    """All tiers, the highest first."""
    return [Tier(*row) for row in await _rows(connection, "list_tiers", {})]


async def change_tier(connection: Connection, tier: Tier) -> None:
    """Write a tier whole."""
    await _do(connection, "change_tier", asdict(tier))


async def manage_queue(connection: Connection) -> None:
    """Have the customers' queue managed, if it is not yet."""
    await _do(connection, "manage_queue", {})


async def share_terms(
    connection: Connection, *, customer_id: str, max_running: int, weight: float, exempt: bool
) -> None:
    """Write what holds for the customer's key in the queue."""
    params = {"customer_id": customer_id, "max_running": max_running, "weight": weight, "exempt": exempt}
    await _do(connection, "share_terms", params)


# --- accepting ----------------------------------------------------------------------------------------------


async def find_same_key(connection: Connection, customer_id: str, key: str) -> Accepted | None:
    """The job that came before under this idempotency key."""
    params = {"customer_id": customer_id, "idempotency_key": key}
    rows = await _rows(connection, "find_same_key", params)
    return Accepted(*rows[0]) if rows else None


async def count_accepted(
    connection: Connection, customer: Customer, *, quota: int | None, blocked: bool
) -> tuple[QuotaDay | None, float]:
    """Count one more job of today: (the day with it, or None over a quota that blocks; seconds to the next day)."""
    params = {
        "customer_id": customer.customer_id,
        "time_zone": customer.time_zone,
        "quota": quota,
        "blocked": blocked,
    }
    [row] = await _rows(connection, "count_accepted", params)
    return (QuotaDay(*row) if row[1] is not None else None), row[3]


async def read_quota_day(connection: Connection, customer: Customer) -> QuotaDay:
    """What is used of today."""
    params = {"customer_id": customer.customer_id, "time_zone": customer.time_zone}
    [row] = await _rows(connection, "read_quota_day", params)
    return QuotaDay(*row)


async def lock_capacity(connection: Connection) -> int:
    """The capacity, held until the transaction ends."""
    [row] = await _rows(connection, "lock_capacity", {})
    return int(row[0])


async def count_load(connection: Connection, *, most: int) -> int:
    """Running + waiting jobs that count, at most `most`."""
    [row] = await _rows(connection, "count_load", {"most": most})
    return int(row[0])


async def set_capacity(connection: Connection, capacity: int) -> int:
    """Change the capacity; answers the old one."""
    [row] = await _rows(connection, "set_capacity", {"capacity": capacity})
    return int(row[0])


async def accept_job(connection: Connection, values: Mapping[str, Any]) -> Accepted:
    """Write the job's row and its line of the ledger."""
    [row] = await _rows(connection, "accept_job", values)
    return Accepted(*row)


async def read_accepted(connection: Connection, customer_id: str, job_id: int) -> Accepted | None:
    """A customer's own job."""
    rows = await _rows(connection, "read_accepted", {"customer_id": customer_id, "job_id": job_id})
    return Accepted(*rows[0]) if rows else None


async def list_accepted(
    connection: Connection, customer_id: str, *, workflow: str, before: int, most: int
) -> list[Accepted]:
    """A customer's jobs of a workflow, newest first."""
    params = {"customer_id": customer_id, "workflow": workflow, "before": before, "most": most}
    return [Accepted(*row) for row in await _rows(connection, "list_accepted", params)]


# --- ending -------------------------------------------------------------------------------------------------


async def meter_success(
    connection: Connection, *, job_id: int, token: int, attempt: int, run_ms: int
) -> Row | None:
    """End and meter; None when the job is no customer's or has ended before."""
    params = {"job_id": job_id, "token": token, "attempt": attempt, "run_ms": run_ms}
    rows = await _named(connection, "meter_success", params)
    return rows[0] if rows else None


async def meter_failures(connection: Connection, job_id: int) -> int:
    """Meter the failed attempts that are not metered yet."""
    return await _do(connection, "meter_failures", {"job_id": job_id})


async def follow_job(
    connection: Connection, job_id: int, *, outcome: str | None, error_class: str | None
) -> Row | None:
    """Write how the job ended, or that it is open again; None when it is no customer's."""
    params = {"job_id": job_id, "outcome": outcome, "error_class": error_class}
    rows = await _named(connection, "follow_job", params)
    return rows[0] if rows else None


async def lock_open_jobs(connection: Connection, *, after: int, most: int) -> list[int]:
    """The next page of accepted jobs that are open, held until the transaction ends."""
    rows = await _rows(connection, "lock_open_jobs", {"after": after, "most": most})
    return [row[0] for row in rows]


async def end_astray(connection: Connection, job_ids: Sequence[int]) -> list[Row]:
    """End those of the held jobs whose job of the queue has ended or is gone; answers these."""
    return await _named(connection, "end_astray", {"job_ids": list(job_ids)}) if job_ids else []


async def read_queue_states(connection: Connection, job_ids: Sequence[int]) -> dict[int, Row]:
    """Where jobs stand in the queue; those that are no longer kept are left out."""
    rows = await _named(connection, "read_queue_states", {"job_ids": list(job_ids)})
    return {row["job_id"]: row for row in rows}


# --- telling, auditing --------------------------------------------------------------------------------------


async def add_notification(connection: Connection, values: Mapping[str, Any]) -> str | None:
    """Note a notification for the customer's channel, and answer that; None when the occasion was told before."""
    params = {**values, "facts": _json(values["facts"])}
    rows = await _rows(connection, "add_notification", params)
    return str(rows[0][0]) if rows else None


async def read_notification(connection: Connection, notification_id: UUID) -> Row | None:
    """A notification with the customer's address and language."""
    rows = await _named(connection, "read_notification", {"id": notification_id})
    return rows[0] if rows else None


async def mark_notification(connection: Connection, notification_id: UUID, *, sent: bool) -> None:
    """Write that it was sent, or that sending was given up."""
    await _do(connection, "mark_notification", {"id": notification_id, "sent": sent})


async def list_notifications(connection: Connection, customer_id: str, *, most: int) -> list[Row]:
    """A customer's latest notifications."""
    return await _named(connection, "list_notifications", {"customer_id": customer_id, "most": most})


async def count_full_days(
    connection: Connection, *, customer_id: str, day: date, window: int, least: int
) -> int:
    """On how many of the `window` days up to `day` at least so many jobs were accepted."""
    params = {"customer_id": customer_id, "day": day, "window": window, "least": least}
    [row] = await _rows(connection, "count_full_days", params)
    return int(row[0])


async def lock_webhook_secrets(connection: Connection, *, after: str, most: int) -> list[tuple[str, str]]:
    """A batch of customers with the secrets of their webhooks as stored, locked."""
    rows = await _rows(connection, "lock_webhook_secrets", {"after": after, "most": most})
    return [(str(customer), str(stored)) for customer, stored in rows]


async def write_webhook_secret(connection: Connection, customer_id: str, stored: str) -> None:
    """Store a secret anew, as it is given."""
    await _do(connection, "write_webhook_secret", {"customer_id": customer_id, "stored": stored})


async def audit_change(
    connection: Connection,
    *,
    actor: str,
    action: str,
    target: str,
    before: Any = None,
    after: Any = None,
) -> None:
    """Write who changed what, beside the change."""
    told = {"before": _json(before), "after": _json(after)}
    await _do(connection, "audit_change", {"actor": actor, "action": action, "target": target, **told})


async def list_audit(connection: Connection, *, target: str | None, before: int, most: int) -> list[Row]:
    """Changes, newest first."""
    return await _named(connection, "list_audit", {"target": target, "before": before, "most": most})


async def fail_notification(connection: Connection, job_id: int) -> None:
    """Mark the notification of a sending job as given up."""
    await _do(connection, "fail_notification", {"job_id": job_id})


# --- health, history ----------------------------------------------------------------------------------------


async def ask_canary(connection: Connection, workflow: str, *, every: float) -> bool:
    """Whether the workflow's next canary is due; holds its row until the transaction ends."""
    return bool(await _rows(connection, "ask_canary", {"workflow": workflow, "every": every}))


async def note_canary(connection: Connection, workflow: str, job_id: int) -> None:
    """Write which job is the canary now."""
    await _do(connection, "note_canary", {"workflow": workflow, "job_id": job_id})


async def answer_canary(connection: Connection, job_id: int, *, error: str | None) -> None:
    """Write that the canary came through, or what it failed with."""
    await _do(connection, "answer_canary", {"job_id": job_id, "error": error})


async def read_health(connection: Connection, *, late: float) -> list[Row]:
    """The last canary of every workflow; unhealthy after an error, and `late` seconds without an answer."""
    return await _named(connection, "read_health", {"late": late})


class HistoryPage(NamedTuple):
    """The last customer of a page, how many were looked at, and how many of them changed."""

    last: str
    seen: int
    changed: int


async def refresh_history(connection: Connection, *, days: int, after: str, most: int) -> HistoryPage:
    """Count again what the jobs of the last days came to, for the next page of customers."""
    [row] = await _rows(connection, "refresh_history", {"days": days, "after": after, "most": most})
    return HistoryPage(*row)


# --- prices, invoices, reports ------------------------------------------------------------------------------


async def list_prices(connection: Connection) -> list[PriceList]:
    """Every version of every tier's prices, the newest first."""
    return [PriceList(*row) for row in await _rows(connection, "list_prices", {})]


async def add_prices(connection: Connection, values: Mapping[str, Any]) -> int | None:
    """Add the next version of a tier's prices, valid in future; None for a past that is priced already."""
    rows = await _rows(connection, "add_prices", {**values, "prices": _json(values["prices"])})
    return int(rows[0][0]) if rows else None


async def sum_uses(connection: Connection, customer_id: str, month: date, *, time_zone: str) -> list[Row]:
    """What was used in a month, by what, tier and price version, in the order of the first use."""
    return await _named(connection, "sum_uses", _month(customer_id, month, time_zone))


async def find_fee(
    connection: Connection, customer_id: str, month: date, *, time_zone: str
) -> tuple[str, int] | None:
    """(tier, price version) whose monthly fee the month costs."""
    rows = await _rows(connection, "find_fee", _month(customer_id, month, time_zone))
    return (str(rows[0][0]), int(rows[0][1])) if rows else None


async def is_month_over(connection: Connection, month: date, *, time_zone: str, grace: float) -> bool:
    """Whether the month ended `grace` seconds ago in that zone."""
    params = {"month": month, "time_zone": time_zone, "grace": grace}
    [row] = await _rows(connection, "is_month_over", params)
    return bool(row[0])


async def read_invoice(connection: Connection, customer_id: str, month: date) -> Row | None:
    """An issued invoice."""
    rows = await _named(connection, "read_invoice", {"customer_id": customer_id, "month": month})
    return rows[0] if rows else None


async def add_invoice(connection: Connection, invoice: Invoice) -> None:
    """Issue an invoice."""
    params = {
        "customer_id": invoice.customer_id,
        "month": invoice.month,
        "currency": invoice.currency,
        "total": invoice.total,
        "document": invoice.model_dump_json(),
    }
    await _do(connection, "add_invoice", params)


async def report_uses(connection: Connection, customer_id: str, month: date, *, time_zone: str) -> list[Row]:
    """What was used by day, workflow and what."""
    return await _named(connection, "report_uses", _month(customer_id, month, time_zone))


async def report_outcomes(
    connection: Connection, customer_id: str, month: date, *, time_zone: str
) -> list[Row]:
    """How the month's jobs ended, by workflow, outcome and error class."""
    return await _named(connection, "report_outcomes", _month(customer_id, month, time_zone))


def _month(customer_id: str, month: date, time_zone: str) -> Row:
    return {"customer_id": customer_id, "month": month, "time_zone": time_zone}
