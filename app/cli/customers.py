"""`tandem customers`, `tandem tiers`, `tandem prices`: who may do what, and what it costs. Every change is audited."""

from typing import Annotated, Any

import typer

from app.cli.connected import ask, operator
from app.cli.output import Json, answer, pairs, table

app = typer.Typer(no_args_is_help=True, help="Customers: list, show, set, usage, invoice, audit.")
tiers = typer.Typer(no_args_is_help=True, help="Tiers: list, set, capacity.")
prices = typer.Typer(no_args_is_help=True, help="Price lists: list, add.")

Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.")]
Tier = Annotated[str, typer.Argument(metavar="TIER", help="vip, premium, pro or free.")]
Values = Annotated[
    list[str], typer.Argument(metavar="NAME=VALUE...", help="What to change; an empty VALUE takes it away.")
]
Month = Annotated[
    str | None, typer.Option(help="A month like 2026-11; the present one, unless told otherwise.")
]
CUSTOMERS = {
    "customer_id": "customer", "tier": "tier", "name": "name", "max_running": "jobs at once",
    "rate_per_minute": "per minute", "daily_quota": "per day", "time_zone": "time zone",
}  # fmt: skip
TIERS = {
    "tier": "tier", "rate_per_minute": "per minute", "daily_quota": "per day", "max_running": "jobs at once",
    "when_full": "when full", "longest_wait": "waits at most", "base_priority": "priority", "overage": "overage",
    "tracking": "tracking",
}  # fmt: skip
PRICES = {
    "tier": "tier",
    "version": "version",
    "valid_from": "valid from",
    "monthly_fee": "fee",
    "currency": "currency",
}


def register(parent: typer.Typer) -> None:
    """Add these groups to the command line."""
    parent.add_typer(app, name="customers")
    parent.add_typer(tiers, name="tiers")
    parent.add_typer(prices, name="prices")


@app.command("list")
def list_(
    tier: Annotated[str | None, typer.Option(help="Of this tier alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(help="Behind this id.")] = "",
    as_json: Json = False,
) -> None:
    """List customers by id; limits that are empty are the tier's.

    Example: tandem customers list --tier premium
    """
    from dataclasses import asdict

    from app.domains.customers import repository

    found = ask(lambda connection: repository.list_customers(connection, after=after, tier=tier, most=limit))
    rows = [asdict(one) for one in found]
    answer({"customers": rows}, table(CUSTOMERS, rows, empty="no customers yet"), as_json=as_json)


@app.command()
def show(customer: Customer, as_json: Json = False) -> None:
    """Show a customer: its tier, the limits that hold, what is used today.

    Example: tandem customers show ann
    """
    from app.domains.customers import accounts, administration

    async def look(connection: Any) -> dict[str, Any]:
        terms = await administration.read_customer(connection, customer)
        return (await accounts.read_account(connection, terms)).model_dump()

    facts = ask(look)
    answer(facts, pairs(facts), as_json=as_json)


@app.command("set")
def set_(customer: Customer, values: Values, as_json: Json = False) -> None:
    """Change a customer, made if need be: tier, name, time_zone, language, notify_by, email, webhook_url, and its own
    max_running, rate_per_minute, daily_quota, weight over the tier's.

    Example: tandem customers set ann tier=premium max_running=20 daily_quota=
    """
    from dataclasses import asdict

    from app.config import load_settings
    from app.domains.customers import administration, hooks

    changes, ring = _values(values), hooks.keyring(load_settings())
    changed, secret = ask(
        lambda connection: administration.set_customer(
            connection, customer, changes, actor=operator(), ring=ring
        )
    )
    facts = asdict(changed) | {"webhook_secret": secret}
    answer(facts, pairs(facts), as_json=as_json)


@app.command("seal-secrets")
def seal_secrets(as_json: Json = False) -> None:
    """Encrypt the stored secrets of webhooks under the current key: those in plain text, and those under an older key.

    Example: TANDEM_TOPICS__KEY_FILE=/etc/tandem/keys.json tandem customers seal-secrets
    """
    from app.config import load_settings
    from app.domains.customers import hooks

    ring = hooks.keyring(load_settings())
    hooks.check_key(ring)
    done = ask(lambda connection: hooks.seal_all(connection, ring, actor=operator()))
    text = f"{done.sealed} secrets sealed"
    if done.lost:
        text += f"; the keys of {', '.join(done.lost)} are gone: these customers must set their address again"
    answer(done._asdict(), text, as_json=as_json)


@app.command()
def usage(customer: Customer, month: Month = None, as_json: Json = False) -> None:
    """Show what a customer used, as much as its tier's report tells.

    Example: tandem customers usage ann --month 2026-11
    """
    import json

    from app.domains.customers import administration, reports
    from app.domains.customers.billing import read_month

    async def look(connection: Any) -> dict[str, Any]:
        terms = await administration.read_customer(connection, customer)
        return await reports.report_usage(connection, terms, read_month(month) if month else None)

    report = ask(look)
    answer(report, json.dumps(report, indent=2, ensure_ascii=False, default=str), as_json=as_json)


@app.command()
def invoice(
    customer: Customer,
    month: Annotated[str, typer.Argument(help="A month like 2026-11.")],
    issue: Annotated[
        bool, typer.Option("--issue", help="Issue it, once its month is over: it gets a number.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Write the page to standard output.")] = False,
    as_json: Json = False,
) -> None:
    """Show a month's invoice, as issued or as a preview.

    Example: tandem customers invoice ann 2026-11 --html > invoice.html
    """
    from app.domains.customers import administration, billing

    async def work(connection: Any) -> tuple[Any, str]:
        wanted = billing.read_month(month)
        terms = await administration.read_customer(connection, customer)
        if issue:
            async with connection.transaction():
                found = await billing.issue_invoice(connection, customer, wanted, actor=operator())
        else:
            found = await billing.preview_invoice(connection, customer, wanted)
        return found, billing.render_invoice(found, terms.customer.language)

    found, page = ask(work)
    facts = found.model_dump(mode="json")
    lines = table(
        {"what": "what", "tier": "plan", "quantity": "quantity", "price": "price", "amount": "amount"},
        facts["lines"],
        empty="nothing to pay",
    )
    head = f"invoice {facts['number'] or '(preview)'} for {customer}, {month}"
    told = f"{head}\n{lines}\ntotal {facts['total']} {facts['currency']}"
    answer(facts, page if html else told, as_json=as_json)


@app.command()
def audit(
    target: Annotated[str | None, typer.Argument(help="A customer, a tier, or `capacity`.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Show who changed what of customers, tiers, prices and capacity, the newest first.

    Example: tandem customers audit ann
    """
    from app.domains.customers import repository

    rows = ask(
        lambda connection: repository.list_audit(connection, target=target, before=2**63 - 1, most=limit)
    )
    columns = {
        "at": "when",
        "actor": "who",
        "action": "what",
        "target": "of",
        "before": "before",
        "after": "after",
    }
    answer({"changes": rows}, table(columns, rows, empty="no changes"), as_json=as_json)


@tiers.command("list")
def list_tiers(as_json: Json = False) -> None:
    """List the tiers, the highest first.

    Example: tandem tiers list
    """
    from dataclasses import asdict

    from app.domains.customers import repository

    rows = [asdict(one) for one in ask(repository.list_tiers)]
    answer({"tiers": rows}, table(TIERS, rows, empty="no tiers"), as_json=as_json)


@tiers.command("set")
def set_tier(tier: Tier, values: Values, as_json: Json = False) -> None:
    """Change a tier at run time; longest_wait and ageing_every are seconds.

    Example: tandem tiers set pro daily_quota=600 longest_wait=7200
    """
    from dataclasses import asdict

    from app.domains.customers import administration

    changes = _values(values)
    for name in {"longest_wait", "ageing_every"} & set(changes):
        changes[name] = administration.seconds(changes[name])
    changed = ask(lambda connection: administration.set_tier(connection, tier, changes, actor=operator()))
    answer(asdict(changed), pairs(asdict(changed)), as_json=as_json)


@tiers.command()
def capacity(
    jobs: Annotated[int, typer.Argument(help="Running and waiting jobs, VIP not counted.")],
    as_json: Json = False,
) -> None:
    """Set from how many running and waiting jobs on the system is full.

    Example: tandem tiers capacity 2000
    """
    from app.domains.customers import administration

    before = ask(lambda connection: administration.set_capacity(connection, jobs, actor=operator()))
    answer({"before": before, "capacity": jobs}, f"full from {jobs} jobs on (was {before})", as_json=as_json)


@prices.command("list")
def list_prices(as_json: Json = False) -> None:
    """List every version of every tier's prices.

    Example: tandem prices list --json
    """
    from dataclasses import asdict

    from app.domains.customers import repository

    rows = [asdict(one) for one in ask(repository.list_prices)]
    answer({"prices": rows}, table(PRICES, rows, empty="no prices"), as_json=as_json)


@prices.command("add")
def add_prices(
    tier: Tier,
    file: Annotated[str, typer.Argument(help="A JSON file of the steps; - for standard input.")],
    fee: Annotated[str, typer.Option(help="The monthly fee.")] = "0",
    currency: Annotated[str, typer.Option(help="Three letters.")] = "USD",
    valid_from: Annotated[
        str | None, typer.Option(help="Like 2026-12-01T00:00:00Z; now, unless told otherwise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add the next version of a tier's prices; what was used before keeps its price.

    Example: tandem prices add pro prices.json --fee 39 --valid-from 2026-12-01T00:00:00Z
    """
    import json
    import sys
    from datetime import datetime
    from decimal import Decimal, InvalidOperation
    from pathlib import Path

    from app.domains.customers import administration

    try:
        steps = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
        amount, begins = Decimal(fee), datetime.fromisoformat(valid_from) if valid_from else None
    except (ValueError, InvalidOperation, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    version = ask(
        lambda connection: administration.add_prices(
            connection,
            tier,
            prices=steps,
            monthly_fee=amount,
            currency=currency,
            valid_from=begins,
            actor=operator(),
        )
    )
    answer({"tier": tier, "version": version}, f"{tier} has prices of version {version}", as_json=as_json)


def _values(given: list[str]) -> dict[str, Any]:
    """NAME=VALUE as values: numbers, true, false, nothing, else text."""
    found: dict[str, Any] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE")
        found[name] = _value(name, text)
    return found


def _value(name: str, text: str) -> Any:
    if text == "":
        return None if name != "name" else ""
    if text in ("true", "false"):
        return text == "true"
    if name in ("name", "email", "webhook_url"):
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
