"""What customers are told, and when: written beside what it is about, sent by a job of its own, nothing told twice."""

from math import ceil
from typing import Any, Final

import psycopg

from app.api.ids import uuid7
from app.config import CustomerSettings
from app.domains.customers import repository
from app.domains.customers.models import QuotaDay, Terms, Tier
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob

KIND: Final = "customers.notify"
QUEUE: Final = "notifications"
WINDOW_DAYS: Final = 14
Connection = psycopg.AsyncConnection[Any]


async def tell(
    connection: Connection,
    customer_id: str,
    topic: str,
    facts: dict[str, Any],
    *,
    once: str,
    job_id: int | None = None,
) -> bool:
    """Note a notification and enqueue its sending, in the caller's transaction; False when it was told before.

    `once` names the occasion: the same customer is told the same occasion one time.
    """
    notification_id = uuid7()
    channel = await repository.add_notification(
        connection,
        {
            "id": notification_id,
            "customer_id": customer_id,
            "topic": topic,
            "once": once,
            "job_id": job_id,
            "facts": facts,
        },
    )
    if channel is None:
        return False
    if channel != "none":
        payload = {"notification_id": str(notification_id)}
        await enqueue_async(connection, NewJob(KIND, payload, queue=QUEUE, partition_key=customer_id))
    return True


async def warn_of_quota(
    connection: Connection, terms: Terms, day: QuotaDay, settings: CustomerSettings
) -> None:
    """Warn when this job reached 80 % or 95 % of the day's quota; suggest a higher tier when that happens often."""
    quota = terms.daily_quota
    if not quota:
        return
    for share in settings.warn_at:
        if day.accepted != ceil(quota * share):
            continue
        facts = {"percent": round(share * 100), "accepted": day.accepted, "quota": quota, "day": str(day.day)}
        once = f"quota:{day.day}:{facts['percent']}"
        await tell(connection, terms.customer.customer_id, "quota-warning", facts, once=once)
        if share == max(settings.warn_at):
            await _suggest(connection, terms, day, settings)


async def _suggest(connection: Connection, terms: Terms, day: QuotaDay, settings: CustomerSettings) -> None:
    """The next tier up that offers more, when the last warning came on several days of the last two weeks."""
    customer_id = terms.customer.customer_id
    days = await repository.count_full_days(
        connection,
        customer_id=customer_id,
        day=day.day,
        window=WINDOW_DAYS,
        least=ceil((terms.daily_quota or 0) * max(settings.warn_at)),
    )
    better = next_tier(await repository.list_tiers(connection), terms)
    if days >= settings.suggest_after_days and better is not None:
        facts = {"tier": better.tier, "offered": better.daily_quota, "days": days}
        await tell(connection, customer_id, "upgrade-suggested", facts, once=f"upgrade:{day.day:%Y-%m}")


def next_tier(tiers: list[Tier], terms: Terms) -> Tier | None:
    """The lowest tier above the customer's whose daily quota is higher than what holds now."""
    now = terms.daily_quota
    better = [
        tier
        for tier in tiers
        if tier.rank > terms.tier.rank
        and now is not None
        and (tier.daily_quota is None or tier.daily_quota > now)
    ]
    return min(better, key=lambda tier: tier.rank, default=None)
