"""The customers' kinds of jobs: one per workflow, one that sends notifications; and what follows from their ends."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import psycopg
from pydantic import BaseModel, ConfigDict

from app import events
from app.api.ids import uuid7
from app.config import Settings
from app.context import bind
from app.database.deadline import BoundedAsyncConnection
from app.domains.customers import health, notices, operators, repository, upkeep
from app.domains.customers.facts import TryEnded, WorkflowStarted
from app.domains.customers.health import QUEUE
from app.domains.customers.priority import Factors
from app.domains.customers.recalculation import recalculate
from app.domains.customers.sending import Notify, Sender
from app.domains.customers.workflows import PREFIX, Order, Workflow
from app.queue.kinds import Change, Kind, Registry
from app.queue.retry import Retrying, RetryPolicy
from app.queue.running import Job

TELL_AT: Final[Mapping[str, int]] = {
    "temporary": 2,
    "network": 2,
    "timeout": 2,
    "crash": 2,
    "resource": 1,
    "auth": 1,
}
"""After which failure of these classes the customer hears of it (product page, section 3, point 6)."""
SENDING_DELAYS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 10800.0)
Repair = Callable[[BoundedAsyncConnection], Awaitable[int]]
_log = logging.getLogger(__name__)


class CustomerJob(BaseModel):
    """The payload of a workflow's job."""

    model_config = ConfigDict(frozen=True)

    customer_id: str
    tier: str
    input: dict[str, Any]


class Runner:
    """The handler of one workflow: computes, then ends job, ledger and notification in one transaction."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def handle(self, job: Job[CustomerJob]) -> None:
        """Run one try. Whatever it computed counts once, however often the job runs."""
        payload, workflow = job.payload, self._workflow
        if job.attempt == 1 and payload.tier != health.TIER:
            events.publish(WorkflowStarted(payload.tier, workflow.name, job.waited))
        order = Order(payload.customer_id, workflow.input.model_validate(payload.input))
        with bind(job_id=job.id):
            result = None if workflow.reads else await workflow.compute(order, None)
            async with job.transaction() as transaction:
                connection = transaction.connection
                if workflow.reads:
                    result = await workflow.compute(order, connection)
                transaction.result = result
                await self._end(connection, job)
        events.publish(TryEnded(workflow.name, "success", final=True))

    async def _end(self, connection: psycopg.AsyncConnection[Any], job: Job[CustomerJob]) -> None:
        if job.payload.tier == health.TIER:
            await repository.answer_canary(connection, job.id, error=None)
            return
        ended = await repository.meter_success(
            connection,
            job_id=job.id,
            token=job.claimed.token,
            attempt=job.attempt,
            run_ms=round(job.ran_ms),
        )
        if ended is not None and ended["notify"]:
            facts = {"job_id": job.id, "workflow": ended["workflow"]}
            await notices.tell(
                connection,
                ended["customer_id"],
                "job-succeeded",
                facts,
                once=f"ended:{uuid7().hex}",
                job_id=job.id,
            )


def register(registry: Registry, *, workflows: Mapping[str, Workflow], settings: Settings) -> None:
    """Add the kinds to a worker's registry, and the formula of their priorities."""
    factors = Factors(**settings.customers.priority)  # type: ignore[arg-type]
    registry.priority(
        QUEUE,
        partial(recalculate, factors=factors),
        every=settings.customers.recalculate_every_seconds,
    )
    seconds = settings.customers.job_seconds
    hook = partial(follow, alerts=settings.customers.operator_email is not None)
    for workflow in workflows.values():
        registry.add(
            Kind(
                name=workflow.kind,
                handler=Runner(workflow).handle,
                payload=CustomerJob,
                timeout=seconds,
                retry=Retrying(),  # the classes' own: 3 x 2^n s, 5 x 30 s, none, 3 x 5^n s
                hook=hook,
            )
        )
    registry.add(
        Kind(
            name=notices.KIND,
            handler=Sender(settings).handle,
            payload=Notify,
            timeout=60.0,
            retry=Retrying(own=RetryPolicy(8, delays=SENDING_DELAYS, longest=10800.0)),
            hook=give_up,
        )
    )
    registry.add(
        Kind(
            name=operators.KIND,
            handler=operators.Operators(settings).handle,
            payload=operators.Alert,
            timeout=60.0,
            retry=Retrying(own=RetryPolicy(8, delays=SENDING_DELAYS, longest=10800.0)),
        )
    )


def reconcilers(settings: Settings, workflows: Mapping[str, Workflow]) -> list[tuple[str, Repair, float]]:
    """(name, repair, seconds between two runs) for the sweeper."""
    own = settings.customers
    canaries = partial(health.send_canaries, workflows=workflows, settings=own)
    return [
        ("customer-canaries", canaries, own.health_every_seconds / 5),
        ("customer-history", upkeep.History().refresh, own.recalculate_every_seconds * 10),
        ("customer-jobs", upkeep.Drift().repair, own.recalculate_every_seconds),
    ]


async def follow(connection: psycopg.AsyncConnection[Any], change: Change, *, alerts: bool = False) -> None:
    """The hook: meter what failed, bring the accepted job in line, tell the customer; all in the job's transaction.

    With `alerts` operators are told of a job without access, a canary included.
    """
    if alerts and change.transition == "DEAD" and change.error_class == "auth":
        await operators.alert(connection, change)
    await repository.meter_failures(connection, change.job_id)
    outcome = change.transition if change.transition in ("DEAD", "CANCELLED") else None
    row = await repository.follow_job(
        connection, change.job_id, outcome=outcome, error_class=change.error_class
    )
    if row is None:
        if outcome is not None:
            await repository.answer_canary(connection, change.job_id, error=change.message or outcome)
        return
    if change.transition != "REDRIVEN":
        _report(change)
    topic = _topic(change)
    if topic is not None and (row["notify"] or topic == "job-expired"):
        facts = {"job_id": change.job_id, "workflow": row["workflow"], "error_class": change.error_class}
        once = f"{topic}:{uuid7().hex}"  # a transition happens once, and may come again after a redrive
        await notices.tell(connection, row["customer_id"], topic, facts, once=once, job_id=change.job_id)


def _topic(change: Change) -> str | None:
    """What the customer is told of a change, if anything."""
    if change.transition == "DEAD":
        return "job-expired" if change.error_class == "expired" else "job-dead"
    if change.transition == "CANCELLED":
        return "job-cancelled"
    failing = change.transition == "RETRY" and change.attempt == TELL_AT.get(change.error_class or "")
    return "job-failing" if failing else None


def _report(change: Change) -> None:
    final = change.transition in ("DEAD", "CANCELLED")
    if change.transition == "CANCELLED":
        result = "cancelled"
    else:
        result = "expired" if change.error_class == "expired" else "failure"
    events.publish(TryEnded(change.kind.removeprefix(PREFIX), result, final=final))  # type: ignore[arg-type]
    if change.error_class == "auth":
        _log.error("job %s of kind %s has no access: %s", change.job_id, change.kind, change.message)


async def give_up(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    """The hook of notifications: what could not be sent is marked, and stays readable in the API."""
    if change.transition in ("DEAD", "CANCELLED"):
        await repository.fail_notification(connection, change.job_id)
