"""What administrators do: tiers, customers, prices, capacity. Every change is audited in its own transaction."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg

from app.domains.customers import repository
from app.domains.customers.errors import unknown_customer, unknown_tier
from app.domains.customers.hooks import PLAIN, new_secret
from app.domains.customers.keys import share_terms
from app.domains.customers.models import Customer, Terms, Tier
from app.domains.customers.pricing import read_steps
from app.domains.customers.service import LOWEST_TIER
from app.errors import Conflict, InvalidInput
from app.outbound.addresses import check_url
from app.queue.sealing import Keyring

PAGE: Final = 500
TIER_FIELDS: Final = tuple(field.name for field in fields(Tier) if field.name != "tier")
CUSTOMER_FIELDS: Final = (
    "tier", "name", "time_zone", "language", "notify_by", "email", "webhook_url", "max_running", "rate_per_minute",
    "daily_quota", "weight",
)  # fmt: skip
Connection = psycopg.AsyncConnection[Any]


async def set_tier(connection: Connection, name: str, changes: Mapping[str, Any], *, actor: str) -> Tier:
    """Change columns of a tier; its customers have them from their next request on. Raises InvalidInput."""
    async with connection.transaction():
        tiers = {tier.tier: tier for tier in await repository.list_tiers(connection)}
        if name not in tiers:
            raise unknown_tier(name)
        changed = replace(tiers[name], **_known(changes, TIER_FIELDS))
        with _as_invalid():
            await repository.change_tier(connection, changed)
        await _audit(connection, actor, "tier.set", name, tiers[name], changed)
        if _shared(changed) != _shared(tiers[name]):
            await _each_customer(connection, changed)
    return changed


async def set_customer(
    connection: Connection,
    customer_id: str,
    changes: Mapping[str, Any],
    *,
    actor: str,
    private: bool = False,
    ring: Keyring = PLAIN,
) -> tuple[Customer, str | None]:
    """Change a customer, made if need be; answers it and a new webhook's secret. Raises InvalidInput.

    A token that names a tier decides over the tier set here with the customer's next request.
    """
    given = _known(changes, CUSTOMER_FIELDS)
    async with connection.transaction():
        await repository.add_customer(connection, customer_id, given.get("tier", LOWEST_TIER))
        terms = await repository.lock_terms(connection, customer_id)
        if terms is None:
            raise unknown_tier(str(given.get("tier", LOWEST_TIER)))
        changed = replace(terms.customer, **given)
        _check_zone(changed.time_zone)
        if changed.webhook_url is not None:
            check_url(changed.webhook_url, private=private)
        fresh = changed.webhook_url is not None and changed.webhook_url != terms.customer.webhook_url
        secret, stored = new_secret(ring, customer_id) if fresh else (None, None)
        with _as_invalid():
            await repository.change_customer(connection, changed, webhook_secret=stored)
        await _audit(connection, actor, "customer.set", customer_id, terms.customer, changed)
        now = await repository.read_terms(connection, customer_id)
        assert now is not None  # noqa: S101 - it was just written
        await share_terms(connection, now)
    return now.customer, secret


async def read_customer(connection: Connection, customer_id: str) -> Terms:
    """A customer with what holds for it. Raises NotFound."""
    terms = await repository.read_terms(connection, customer_id)
    if terms is None:
        raise unknown_customer(customer_id)
    return terms


async def add_prices(
    connection: Connection,
    tier: str,
    *,
    prices: Any,
    monthly_fee: Decimal,
    currency: str,
    valid_from: datetime | None,
    actor: str,
) -> int:
    """Add the next version of a tier's prices, valid now or later; answers it. Raises InvalidInput, Conflict."""
    read_steps(prices)
    async with connection.transaction():
        if tier not in {one.tier for one in await repository.list_tiers(connection)}:
            raise unknown_tier(tier)
        values = {
            "tier": tier,
            "valid_from": valid_from,
            "currency": currency,
            "monthly_fee": monthly_fee,
            "prices": prices,
        }
        with _as_invalid():
            version = await repository.add_prices(connection, values)
        if version is None:
            raise Conflict(
                "prices-in-the-past",
                "prices begin now or later, and after the version before: what was used keeps its price",
            )
        await repository.audit_change(
            connection, actor=actor, action="prices.add", target=tier, after={**values, "version": version}
        )
    return version


async def set_capacity(connection: Connection, capacity: int, *, actor: str) -> int:
    """Change from how many running and waiting jobs on the system is full; answers what it was."""
    async with connection.transaction():
        with _as_invalid():
            before = await repository.set_capacity(connection, capacity)
        await repository.audit_change(
            connection, actor=actor, action="capacity.set", target="capacity", before=before, after=capacity
        )
    return before


def seconds(value: float | None) -> timedelta | None:
    """Seconds as an interval, for the columns that are one."""
    return None if value is None else timedelta(seconds=value)


async def _each_customer(connection: Connection, tier: Tier) -> None:
    """Tell the queue the new terms of all the tier's customers, in pages."""
    after = ""
    while page := await repository.list_customers(connection, after=after, tier=tier.tier, most=PAGE):
        for customer in page:
            await share_terms(connection, Terms(customer, tier))
        after = page[-1].customer_id


def _shared(tier: Tier) -> tuple[Any, ...]:
    return tier.max_running, tier.weight, tier.bypasses_global


def _known(changes: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise InvalidInput("unknown-field", f"there is no {', '.join(unknown)}; there are {', '.join(names)}")
    return dict(changes)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise InvalidInput("unknown-time-zone", f"there is no time zone {name[:64]!r}") from None


class _as_invalid:  # noqa: N801 - read as a word
    """What the table's own constraints refuse is the caller's mistake."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, psycopg.errors.ForeignKeyViolation):
            raise InvalidInput("unknown-tier", "there is no such tier") from None
        if isinstance(error, psycopg.errors.IntegrityError | psycopg.DataError):
            name = error.diag.constraint_name or "a value"
            raise InvalidInput("invalid-value", f"a value does not fit ({name})") from None


async def _audit(
    connection: Connection, actor: str, action: str, target: str, before: Any, after: Any
) -> None:
    """Write what differs."""
    old, new = asdict(before), asdict(after)
    differs = [name for name in new if new[name] != old[name]]
    await repository.audit_change(
        connection,
        actor=actor,
        action=action,
        target=target,
        before={name: old[name] for name in differs},
        after={name: new[name] for name in differs},
    )


def as_json(tier: Tier) -> dict[str, Any]:
    """A tier's row as JSON values; intervals are seconds."""
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in asdict(tier).items()
    }
