"""Invoices: a month of the ledger at the prices that were valid when something was used. Issued once, then kept."""

from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from app.domains.customers import repository
from app.domains.customers.errors import unknown_customer
from app.domains.customers.messages import INVOICE
from app.domains.customers.models import Customer, PriceList
from app.domains.customers.pricing import Line, Use, price_uses, total_of
from app.domains.customers.schemas import Invoice, InvoiceLine
from app.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from jinja2 import Environment

GRACE_SECONDS: Final = 3600.0
"""A month is invoiced this long after its end: by then no transaction can still be adding to it."""
TEMPLATES: Final = Path(__file__).parent / "templates"
Connection = psycopg.AsyncConnection[Any]


def read_month(text: str) -> date:
    """The first day of a month like 2026-11. Raises InvalidInput."""
    try:
        year, _, month = text.partition("-")
        if len(year) != 4 or len(month) != 2:
            raise ValueError
        return date(int(year), int(month), 1)
    except ValueError:
        raise InvalidInput("invalid-month", f"{text[:20]!r} is not a month like 2026-11") from None


async def preview_invoice(connection: Connection, customer_id: str, month: date) -> Invoice:
    """What the invoice of a month is, or would be if it ended now. Raises NotFound."""
    terms = await repository.read_terms(connection, customer_id)
    if terms is None:
        raise unknown_customer(customer_id)
    issued = await repository.read_invoice(connection, customer_id, month)
    if issued is not None:
        return Invoice.model_validate(
            {**issued["document"], "number": issued["number"], "issued_at": issued["issued_at"]}
        )
    return await _compute(connection, terms.customer, month)


async def issue_invoice(connection: Connection, customer_id: str, month: date, *, actor: str) -> Invoice:
    """The invoice with its number: made now and audited, or as it was issued before. In the caller's transaction.

    Raises NotFound, and Conflict (month-not-over) until an hour after the month's end in the customer's time zone.
    """
    terms = await repository.lock_terms(connection, customer_id)
    if terms is None:
        raise unknown_customer(customer_id)
    fresh = await repository.read_invoice(connection, customer_id, month) is None
    if fresh:
        if not await repository.is_month_over(
            connection, month, time_zone=terms.customer.time_zone, grace=GRACE_SECONDS
        ):
            raise Conflict(
                "month-not-over", f"{month:%Y-%m} is not over yet for this customer: look at a preview"
            )
        await repository.add_invoice(connection, await _compute(connection, terms.customer, month))
    invoice = await preview_invoice(connection, customer_id, month)
    if fresh:
        told = {name: str(getattr(invoice, name)) for name in ("number", "month", "total", "currency")}
        await repository.audit_change(
            connection, actor=actor, action="invoice.issue", target=customer_id, after=told
        )
    return invoice


async def _compute(connection: Connection, customer: Customer, month: date) -> Invoice:
    """Price the ledger of a month."""
    lists = await repository.list_prices(connection)
    rows = await repository.sum_uses(connection, customer.customer_id, month, time_zone=customer.time_zone)
    lines = price_uses([Use(**row) for row in rows], lists)
    fee = await _fee(connection, customer, month, lists)
    currencies = {
        one.currency for one in lists if (one.tier, one.version) in {(use.tier, use.version) for use in lines}
    }
    if fee is not None:
        currencies.add(fee.currency)
    if len(currencies) > 1:
        raise Conflict(
            "mixed-currencies", f"the prices of {month:%Y-%m} are in {', '.join(sorted(currencies))}"
        )
    amount = fee.monthly_fee if fee is not None else Decimal(0)
    told = (
        [InvoiceLine(what="fee", tier=fee.tier, version=fee.version, quantity=1, price=amount, amount=amount)]
        if fee and amount
        else []
    )
    return Invoice(
        number=None,
        customer_id=customer.customer_id,
        name=customer.name,
        month=month,
        currency=next(iter(currencies), "USD"),
        lines=told + [_line(line) for line in lines],
        total=total_of(lines, amount),
        issued_at=None,
    )


async def _fee(
    connection: Connection, customer: Customer, month: date, lists: list[PriceList]
) -> PriceList | None:
    """The list of the tier that the customer had when the month ended (or has now), valid when the month began."""
    found = await repository.find_fee(connection, customer.customer_id, month, time_zone=customer.time_zone)
    return next((one for one in lists if found == (one.tier, one.version)), None)


def _line(line: Line) -> InvoiceLine:
    return InvoiceLine(
        what=line.what,
        tier=line.tier,
        version=line.version,
        quantity=line.quantity,
        price=line.price,
        amount=line.amount,
    )


def render_invoice(invoice: Invoice, language: str) -> str:
    """The invoice as an HTML page that prints on one sheet; everything in it is escaped."""
    words = INVOICE["vi" if language == "vi" else "en"]
    return _environment().get_template("invoice.html").render(invoice=invoice, words=words, language=language)


@cache
def _environment() -> "Environment":
    # layout: late-import - workers import this module and render no invoices
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
