"""The customers as tests drive them: submissions without HTTP, a worker beside them, rows read by SQL."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psycopg

from app.applications import customer_workflows
from app.config import CustomerSettings, NotificationSettings, Settings
from app.database.connect import connect
from app.domains.customers import jobs, service
from app.domains.customers.schemas import SubmitJob
from app.domains.customers.service import Caller, Submission, Submitted
from app.domains.customers.workflows import Workflow
from app.queue.kinds import Registry
from app.queue.retry import CLASS_POLICIES, Retrying
from tests.support.supervised import supervised
from workers.supervisor import Supervisor
from workers.sweeper.reconcile import Reconciler

TEXT = {"text": "A job queue keeps its jobs in a table, and a table keeps its rows."}


def make_settings(
    *, customers: Mapping[str, Any] | None = None, notifications: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of which a test states only what matters to it."""
    return Settings(
        customers=CustomerSettings(**(customers or {})),
        notifications=NotificationSettings(**(notifications or {})),
    )


async def submit(
    url: str,
    customer: str = "ann",
    tier: str | None = None,
    *,
    workflow: str = "text-keywords",
    key: str | None = None,
    settings: Settings | None = None,
    clock_offset: str = "0",
    language: Any = "en",
    **request: Any,
) -> Submitted:
    """Submit one job as the API does; raises what the API would tell."""
    settings = settings or make_settings()
    found = customer_workflows(settings)[workflow]
    submission = Submission(found, SubmitJob(**({"input": TEXT} | request)), key)
    caller = Caller(customer, tier, language)
    async with await connect(url, name="test", session={"tandem.clock_offset": clock_offset}) as connection:
        await service.meet(connection, caller)
        async with connection.transaction():
            return await service.submit(connection, caller, submission, settings.customers)


@asynccontextmanager
async def working(
    url: str,
    settings: Settings | None = None,
    *,
    workflows: Mapping[str, Workflow] | None = None,
    sweep: bool = False,
    canaries: bool = False,
    **worker: Any,
) -> AsyncIterator[Supervisor]:
    """A worker that runs customers' jobs and sends notifications, in this process."""
    settings = settings or make_settings()
    registry = registered(settings, workflows)
    found = customer_workflows(settings)
    repairs = jobs.reconcilers(settings, found)
    reconcilers = [
        Reconciler(name, repair, 0.1) for name, repair, _ in repairs if canaries or "canar" not in name
    ]
    queues = {"queues": {"customers": 1, "notifications": 1}}
    async with supervised(
        url, registry, sweep=sweep, reconcilers=reconcilers, **{**queues, **worker}
    ) as supervisor:
        yield supervisor


def registered(
    settings: Settings,
    workflows: Mapping[str, Workflow] | None = None,
) -> Registry:
    """A registry that knows the customers' kinds; what fails is tried again at once, as often as ever."""
    found, registry = Registry(), Registry()
    jobs.register(found, workflows=workflows or customer_workflows(settings), settings=settings)
    for kind in found:
        policies = dict(CLASS_POLICIES) if kind.retry.own is None else {"network": kind.retry.own}
        at_once = {
            name: replace(policy, delays=(0.01,))
            for name, policy in policies.items()
            if policy.max_attempts > 1
        }
        registry.add(replace(kind, retry=Retrying(by_class=at_once)))
    return registry


def set_tier(url: str, tier: str, **values: Any) -> None:
    """Change columns of a tier at run time, as an administrator does by SQL."""
    with psycopg.connect(url, autocommit=True) as connection:
        for column, value in values.items():
            statement = psycopg.sql.SQL("UPDATE customer_tiers SET {} = %s WHERE tier = %s")
            connection.execute(statement.format(psycopg.sql.Identifier(column)), (value, tier))
