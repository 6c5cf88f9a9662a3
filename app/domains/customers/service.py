"""What customers do: submit a job, look at it, cancel it. Limits and quotas are checked here; knows no HTTP.

A submission is one transaction: the job, its row, its line of the ledger and the day's count commit together or not
at all.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg

from app.api.strict_json import canonical
from app.config import CustomerSettings
from app.context import present
from app.domains.customers import notices, repository
from app.domains.customers.errors import already_ended, key_reused, unknown_job, unknown_tier
from app.domains.customers.keys import share_terms
from app.domains.customers.messages import refusal
from app.domains.customers.models import Accepted, Language, QuotaDay, Terms
from app.domains.customers.priority import Circumstances, Factors, band_of, priority_of
from app.domains.customers.ratelimit import Left, day_left, minute_left, refused_headers, seconds_up
from app.domains.customers.schemas import SubmitJob
from app.domains.customers.workflows import Workflow
from app.errors import Conflict, TooMany
from app.queue import admin, rates
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Registry

QUEUE: Final = "customers"
LOWEST_TIER: Final = "free"
Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's customer, and its tier if the token says one."""

    customer_id: str
    tier: str | None
    language: Language = "en"


@dataclass(slots=True)
class Submitted:
    """An accepted job, and what the answer's headers say."""

    accepted: Accepted
    band: int
    terms: Terms
    day: QuotaDay | None = None
    created: bool = True


async def meet(connection: Connection, caller: Caller) -> Terms:
    """The caller's terms; a customer is made at first sight, and has the tier that its token says.

    `connection` commits each statement. Raises InvalidInput for a tier that does not exist.
    """
    terms = await repository.read_terms(connection, caller.customer_id)
    if terms is not None and caller.tier in (None, terms.customer.tier):
        return terms
    async with connection.transaction():
        if terms is None:
            await repository.add_customer(connection, caller.customer_id, caller.tier or LOWEST_TIER)
        terms = await repository.lock_terms(connection, caller.customer_id)
        if terms is None:
            raise unknown_tier(caller.tier or LOWEST_TIER)
        if caller.tier not in (None, terms.customer.tier):
            terms = await _move(connection, terms, str(caller.tier))
        await share_terms(connection, terms)
    return terms


async def take_rate(connection: Connection, terms: Terms, language: Language) -> Left:
    """Count one request of the customer's minute, over all processes; what is left of it. Raises TooMany.

    Of its own, before the submission's transaction: a request that is refused later was a request, too.
    """
    limit = terms.rate_per_minute
    answer = await rates.take(connection, f"customer:{terms.customer.customer_id}", limit=limit)
    left = minute_left(limit, answer.remaining, answer.reset_after)
    if not answer.allowed:
        seconds = seconds_up(answer.retry_after)
        raise TooMany(
            "rate-limited",
            refusal("rate-limited", language, limit=limit, seconds=seconds),
            detail={"headers": refused_headers(language, seconds, left)},
        )
    return left


async def _move(connection: Connection, terms: Terms, tier: str) -> Terms:
    """The token says another tier than the table: the token decides, and the audit tells."""
    known = {one.tier: one for one in await repository.list_tiers(connection)}
    if tier not in known:
        raise unknown_tier(tier)
    before, customer = terms.customer.tier, replace(terms.customer, tier=tier)
    await repository.change_customer(connection, customer)
    await repository.audit_change(
        connection,
        actor="token",
        action="customer.tier",
        target=customer.customer_id,
        before={"tier": before},
        after={"tier": tier},
    )
    return Terms(customer, known[tier])


@dataclass(frozen=True, slots=True)
class Submission:
    """One call, checked: what is asked for, of which workflow, under which idempotency key."""

    workflow: Workflow
    request: SubmitJob
    key: str | None

    def body_hash(self) -> bytes:
        """Equal for two calls that ask for the same."""
        said = self.request.model_dump(mode="json")
        return sha256(canonical([self.workflow.name, said]).encode()).digest()


async def submit(
    connection: Connection, caller: Caller, submission: Submission, settings: CustomerSettings
) -> Submitted:
    """Accept a job in one transaction, or answer the one that came before under this key.

    `connection` is inside a transaction that ends with this call. Raises TooMany (quota-exceeded, system-busy) and
    InvalidInput for a key that belongs to another body; nothing of it counts then.
    """
    terms = await repository.lock_terms(connection, caller.customer_id)
    if terms is None:
        raise unknown_tier(caller.tier or LOWEST_TIER)
    if submission.key is not None:
        before = await repository.find_same_key(connection, caller.customer_id, submission.key)
        if before is not None:
            if before.body_hash != submission.body_hash():
                raise key_reused()
            return Submitted(before, band_of(before.priority), terms, created=False)
    day = await _count(connection, terms, caller.language)
    await _check_capacity(connection, terms, caller.language, settings)
    accepted, band = await _write(connection, terms, day, submission, settings)
    await notices.warn_of_quota(connection, terms, day, settings)
    return Submitted(accepted, band, terms, day)


async def _count(connection: Connection, terms: Terms, language: Language) -> QuotaDay:
    quota, blocked = terms.daily_quota, terms.tier.overage == "blocked"
    day, resets_in = await repository.count_accepted(connection, terms.customer, quota=quota, blocked=blocked)
    if day is None:
        seconds = seconds_up(resets_in)
        raise TooMany(
            "quota-exceeded",
            refusal("quota-exceeded", language, limit=quota, seconds=seconds),
            detail={"headers": refused_headers(language, seconds, day_left(quota, quota or 0, resets_in))},
        )
    return day


async def _check_capacity(
    connection: Connection, terms: Terms, language: Language, settings: CustomerSettings
) -> None:
    """Only who may be refused asks, one after the other; everybody else is taken and waits."""
    if terms.tier.when_full != "refuse":
        return
    capacity = await repository.lock_capacity(connection)
    if await repository.count_load(connection, most=capacity) >= capacity:
        seconds = settings.busy_retry_seconds
        raise TooMany(
            "system-busy",
            refusal("system-busy", language, seconds=seconds),
            detail={"headers": refused_headers(language, seconds)},
        )


async def _write(
    connection: Connection, terms: Terms, day: QuotaDay, submission: Submission, settings: CustomerSettings
) -> tuple[Accepted, int]:
    """The job, its row and its line of the ledger."""
    request, customer, tier = submission.request, terms.customer, terms.tier
    wait_until = day.at + tier.longest_wait if tier.longest_wait is not None else None
    light = len(canonical(request.input)) <= settings.light_bytes
    priority = priority_of(
        Circumstances(
            base=tier.base_priority,
            importance=request.importance,
            succeeded=customer.recent_succeeded,
            ended=customer.recent_ended,
            deadline=request.deadline,
            light=light,
            hour=day.at.astimezone(ZoneInfo(customer.time_zone)).hour,
            revenue=request.revenue_impact,
            waited=day.at - day.at,
            ageing_every=tier.ageing_every,
            now=day.at,
        ),
        Factors(**settings.priority),  # type: ignore[arg-type]
    )
    band = band_of(priority)
    made = await enqueue_async(
        connection,
        NewJob(
            submission.workflow.kind,
            {"customer_id": customer.customer_id, "tier": tier.tier, "input": request.input},
            queue=QUEUE,
            priority=band,
            partition_key=customer.customer_id,
            start_by=wait_until,
            context={"request_id": str(present().get("request_id", ""))},
        ),
    )
    accepted = await repository.accept_job(
        connection,
        {
            "job_id": made.job_id,
            "customer_id": customer.customer_id,
            "tier": tier.tier,
            "workflow": submission.workflow.name,
            "counted": tier.when_full != "take",
            "overage": terms.daily_quota is not None and day.accepted > terms.daily_quota,
            "importance": request.importance,
            "revenue": request.revenue_impact,
            "light": light,
            "deadline": request.deadline,
            "wait_until": wait_until,
            "priority": priority,
            "notify": request.notify,
            "idempotency_key": submission.key,
            "body_hash": submission.body_hash(),
            "day": day.day,
        },
    )
    return accepted, band


# --- a customer's own jobs ----------------------------------------------------------------------------------


async def find_job(
    connection: Connection, customer_id: str, workflow: str, job_id: int
) -> tuple[Accepted, dict[str, Any] | None]:
    """A job as accepted and as the queue knows it (None when the queue no longer keeps it). Raises NotFound."""
    accepted = await repository.read_accepted(connection, customer_id, job_id)
    if accepted is None or accepted.workflow != workflow:
        raise unknown_job()
    return accepted, (await repository.read_queue_states(connection, [job_id])).get(job_id)


async def cancel_job(
    connection: Connection, registry: Registry, customer_id: str, workflow: str, job_id: int
) -> str:
    """CANCELLED when it waited, REQUESTED when it runs. Raises NotFound for others' jobs, Conflict for ended ones."""
    await find_job(connection, customer_id, workflow, job_id)
    try:
        return await admin.cancel_job(
            connection, registry, job_id, by=customer_id, reason="the customer cancelled it"
        )
    except Conflict as error:
        raise already_ended(str(error.detail.get("status", "ended"))) from None
