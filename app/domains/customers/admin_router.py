"""The administrators' HTTP face: tiers, customers, prices, capacity. What happens is in administration.py."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from app.api.auth import PrincipalDep, requires
from app.api.body import read_json, validate
from app.api.dependencies import AccessDep, SettingsDep
from app.api.openapi import json_body, problems
from app.domains.customers import accounts, administration, billing, reports, repository
from app.domains.customers.hooks import keyring
from app.domains.customers.models import Channel, Language, Overage, Tracking, WhenFull
from app.domains.customers.schemas import Account, AccountChanged, Invoice, Strict

router = APIRouter(tags=["customers"])
BODY_LIMIT: Final = 64 * 1024
_READ = [Depends(requires("customers:read"))]
_WRITE = [Depends(requires("customers:write"))]
_CHANGED = problems(400, 404, 409, 413, 415, 422, 503)
_SHOWN = problems(404, 409, 422, 503)
Number = Annotated[int | None, Field(ge=0, le=100_000)]
CustomerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][^\x00-\x1f\x7f/]{0,127}$")]
TierName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class SetCustomer(Strict):
    """What to change; null takes an override away. Fields that are left out stay."""

    tier: TierName = "free"
    name: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$")] = "UTC"
    language: Language = "en"
    notify_by: Channel = "none"
    email: Annotated[
        str | None, StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$")
    ] = None
    webhook_url: Annotated[
        str | None, StringConstraints(max_length=2000, pattern=r"^https?://[^\s\x00-\x1f]+$")
    ] = None
    max_running: Number = None
    rate_per_minute: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    daily_quota: Annotated[int | None, Field(ge=0, le=2_000_000_000)] = None
    weight: Annotated[float | None, Field(gt=0, le=1000)] = None


class SetTier(Strict):
    """What to change of a tier; times are seconds. Fields that are left out stay."""

    rate_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    daily_quota: Annotated[int | None, Field(ge=0, le=2_000_000_000)] = None
    max_running: Annotated[int, Field(ge=0, le=100_000)] = 1
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    bypasses_global: bool = False
    when_full: WhenFull = "wait"
    longest_wait: Annotated[float | None, Field(gt=0, le=31_536_000)] = None
    ageing_every: Annotated[float, Field(ge=1, le=31_536_000)] = 3600.0
    base_priority: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    overage: Overage = "standard"
    tracking: Tracking = "basic"


class AddPrices(Strict):
    """The next version of a tier's prices."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"monthly_fee": "39.00", "prices": {"job": [{"up_to": None, "price": "0.01"}]}}]
        },
    )

    prices: dict[str, Any]
    monthly_fee: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,2})?$")] = "0"
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    valid_from: AwareDatetime | None = None


class SetCapacity(Strict):
    """From how many running and waiting jobs on the system is full."""

    capacity: Annotated[int, Field(ge=0, le=10_000_000)]


async def _given(model: Any, request: Request) -> dict[str, Any]:
    """The fields that the body names."""
    body = validate(model, await read_json(request, limit=BODY_LIMIT))
    return {name: getattr(body, name) for name in body.model_fields_set}


@router.get("/v1/customers", summary="List customers", dependencies=_READ, responses=problems(422, 503))
async def list_customers(
    access: AccessDep,
    tier: Annotated[str | None, Query(max_length=32)] = None,
    after: Annotated[
        str, Query(max_length=128, pattern=r"^[^\x00]*$", description="The last id of the page before")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[dict[str, Any]]:
    """By id."""
    async with access.read() as connection:
        found = await repository.list_customers(connection, after=after, tier=tier, most=limit)
    return [{"customer_id": one.customer_id, "tier": one.tier, "name": one.name} for one in found]


@router.get("/v1/customers/{customer_id}", summary="One customer", dependencies=_READ, responses=_SHOWN)
async def get_customer(customer_id: CustomerId, access: AccessDep) -> Account:
    """What holds for it, and what is used today."""
    async with access.read() as connection:
        return await accounts.read_account(
            connection, await administration.read_customer(connection, customer_id)
        )


@router.patch(
    "/v1/customers/{customer_id}",
    summary="Change a customer",
    dependencies=_WRITE,
    responses=_CHANGED,
    openapi_extra=json_body(SetCustomer),
)
async def set_customer(
    customer_id: CustomerId,
    request: Request,
    principal: PrincipalDep,
    access: AccessDep,
    settings: SettingsDep,
) -> AccountChanged:
    """Made if need be. A tier in the customer's own token decides over the one set here."""
    changes = await _given(SetCustomer, request)
    private = settings.notifications.webhook_private_addresses
    async with access.write_at_once() as connection, connection.transaction():
        _, secret = await administration.set_customer(
            connection, customer_id, changes, actor=principal.subject, private=private, ring=keyring(settings)
        )
        account = await accounts.read_account(
            connection, await administration.read_customer(connection, customer_id)
        )
    return AccountChanged(**account.model_dump(), webhook_secret=secret)


@router.get(
    "/v1/customers/{customer_id}/usage", summary="A customer's usage", dependencies=_READ, responses=_SHOWN
)
async def get_customer_usage(customer_id: CustomerId, access: AccessDep) -> dict[str, Any]:
    """This month's, as much as its tier's report tells."""
    async with access.read() as connection:
        return await reports.report_usage(
            connection, await administration.read_customer(connection, customer_id)
        )


@router.post(
    "/v1/customers/{customer_id}/invoices/{month}",
    summary="Issue an invoice",
    dependencies=_WRITE,
    responses=_SHOWN,
)
async def issue_invoice(
    customer_id: CustomerId, month: str, principal: PrincipalDep, access: AccessDep
) -> Invoice:
    """Once its month is over: it gets a number and stays as it is. Safe to repeat."""
    wanted = billing.read_month(month)
    async with access.write_at_once() as connection, connection.transaction():
        return await billing.issue_invoice(connection, customer_id, wanted, actor=principal.subject)


@router.get("/v1/tiers", summary="The tier table", dependencies=_READ, responses=problems(503))
async def list_tiers(access: AccessDep) -> list[dict[str, Any]]:
    """The highest first; times are seconds."""
    async with access.read() as connection:
        return [administration.as_json(tier) for tier in await repository.list_tiers(connection)]


@router.patch(
    "/v1/tiers/{tier}",
    summary="Change a tier",
    dependencies=_WRITE,
    responses=_CHANGED,
    openapi_extra=json_body(SetTier),
)
async def set_tier(
    tier: TierName, request: Request, principal: PrincipalDep, access: AccessDep
) -> dict[str, Any]:
    """In effect with the next request of its customers, and with the next admission."""
    changes = await _given(SetTier, request)
    for name in {"longest_wait", "ageing_every"} & set(changes):
        changes[name] = administration.seconds(changes[name])
    async with access.write_at_once() as connection, connection.transaction():
        return administration.as_json(
            await administration.set_tier(connection, tier, changes, actor=principal.subject)
        )


@router.post(
    "/v1/tiers/{tier}/prices",
    summary="Add prices",
    status_code=201,
    dependencies=_WRITE,
    responses=_CHANGED,
    openapi_extra=json_body(AddPrices),
)
async def add_prices(
    tier: TierName, request: Request, principal: PrincipalDep, access: AccessDep
) -> dict[str, Any]:
    """The next version, valid now or later; what was used before keeps its price."""
    wanted = validate(AddPrices, await read_json(request, limit=BODY_LIMIT))
    begins: datetime | None = wanted.valid_from
    async with access.write_at_once() as connection, connection.transaction():
        version = await administration.add_prices(
            connection,
            tier,
            prices=wanted.prices,
            monthly_fee=Decimal(wanted.monthly_fee),
            currency=wanted.currency,
            valid_from=begins,
            actor=principal.subject,
        )
    return {"tier": tier, "version": version}


@router.put(
    "/v1/capacity",
    summary="Change the capacity",
    dependencies=_WRITE,
    responses=_CHANGED,
    openapi_extra=json_body(SetCapacity),
)
async def set_capacity(request: Request, principal: PrincipalDep, access: AccessDep) -> dict[str, int]:
    """VIP is not counted."""
    wanted = validate(SetCapacity, await read_json(request, limit=BODY_LIMIT))
    async with access.write_at_once() as connection, connection.transaction():
        before = await administration.set_capacity(connection, wanted.capacity, actor=principal.subject)
    return {"before": before, "capacity": wanted.capacity}
