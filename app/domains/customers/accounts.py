"""A customer's own account: what holds for it, what it may change itself, what it was told."""

from dataclasses import replace
from typing import Any

import psycopg

from app.domains.customers import repository
from app.domains.customers.hooks import PLAIN, new_secret
from app.domains.customers.messages import subject
from app.domains.customers.models import Customer, Terms
from app.domains.customers.schemas import Account, AccountChanged, ChangeAccount, NotificationState
from app.errors import InvalidInput
from app.outbound.addresses import check_url
from app.queue.sealing import Keyring

MOST_NOTIFICATIONS = 100
Connection = psycopg.AsyncConnection[Any]


async def read_account(connection: Connection, terms: Terms) -> Account:
    """The account with what is used of today."""
    customer, tier = terms.customer, terms.tier
    today = await repository.read_quota_day(connection, customer)
    return Account(
        customer_id=customer.customer_id,
        tier=tier.tier,
        name=customer.name,
        time_zone=customer.time_zone,
        language=customer.language,
        notify_by=customer.notify_by,
        email=customer.email,
        webhook_url=customer.webhook_url,
        max_running=terms.max_running,
        rate_per_minute=terms.rate_per_minute,
        daily_quota=terms.daily_quota,
        when_full=tier.when_full,
        longest_wait_seconds=tier.longest_wait.total_seconds() if tier.longest_wait else None,
        used_today=today.accepted,
        overage_today=today.overage,
        quota_resets_in_seconds=today.resets_in,
    )


async def change_account(
    connection: Connection,
    customer_id: str,
    change: ChangeAccount,
    *,
    actor: str,
    private: bool,
    ring: Keyring = PLAIN,
) -> AccountChanged:
    """Write what the customer changed, in the caller's transaction. Raises InvalidInput.

    A new webhook address gets a new secret, which is told here once and stored sealed where `ring` has a key.
    """
    terms = await repository.lock_terms(connection, customer_id)
    assert terms is not None  # noqa: S101 - the caller has met the customer
    given = {name: getattr(change, name) for name in change.model_fields_set}
    changed = replace(terms.customer, **given)
    _check(changed, private=private)
    fresh = changed.webhook_url is not None and changed.webhook_url != terms.customer.webhook_url
    secret, stored = new_secret(ring, customer_id) if fresh else (None, None)
    await repository.change_customer(connection, changed, webhook_secret=stored)
    await repository.audit_change(
        connection,
        actor=actor,
        action="account.change",
        target=customer_id,
        before={name: getattr(terms.customer, name) for name in given},
        after=given,
    )
    account = await read_account(connection, Terms(changed, terms.tier))
    return AccountChanged(**account.model_dump(), webhook_secret=secret)


def _check(customer: Customer, *, private: bool) -> None:
    if customer.webhook_url is not None:
        check_url(customer.webhook_url, private=private)
    if customer.notify_by == "mail" and customer.email is None:
        raise InvalidInput("address-missing", "notify_by mail needs an email address")
    if customer.notify_by == "webhook" and customer.webhook_url is None:
        raise InvalidInput("address-missing", "notify_by webhook needs a webhook_url")


async def list_notifications(connection: Connection, terms: Terms) -> list[NotificationState]:
    """The latest ones, each with its line in the customer's language."""
    language = terms.customer.language
    rows = await repository.list_notifications(
        connection, terms.customer.customer_id, most=MOST_NOTIFICATIONS
    )
    return [
        NotificationState(
            **{**row, "id": str(row["id"])}, subject=subject(row["topic"], language, row["facts"])
        )
        for row in rows
    ]
