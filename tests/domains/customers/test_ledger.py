"""The ledger is exact: each accepted job and each attempt once, over retries, crashes, rescues and redrives."""

from collections import Counter
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

from app.database.connect import connect
from app.domains.customers import service
from app.domains.customers.service import Caller
from app.domains.customers.workflows import Order, Workflow
from app.queue import admin
from app.queue.retry import HandlerError
from tests.support.admission import admit
from tests.support.conversations import read, write
from tests.support.customers import make_settings, registered, submit, working
from tests.support.jobs import outcome
from tests.support.waiting import eventually_async

USES = "SELECT what, attempt FROM customer_usage WHERE job_id = %s ORDER BY id"


class Given(BaseModel):
    """What the test's workflow gets."""

    text: str = ""


class Moody:
    """A workflow that fails as it is told to, then works."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.runs = 0

    async def compute(self, _: Order, __: Any) -> dict[str, Any]:
        """Fail with the next class, or answer."""
        self.runs += 1
        if self.failures:
            raise HandlerError("it fails", error_class=self.failures.pop(0))  # type: ignore[arg-type]
        return {"runs": self.runs}

    def workflows(self) -> dict[str, Workflow]:
        """It stands in for text-keywords."""
        return {"text-keywords": Workflow("text-keywords", Given, self.compute, {})}  # type: ignore[arg-type]


async def reach(url: str, job_id: int, wanted: str) -> None:
    """Wait until the job is as wanted."""
    await eventually_async(lambda: outcome(url, job_id) == wanted, timeout=30)


async def test_every_attempt_is_metered_once_and_failures_are_not_billed(db_url: str) -> None:
    job = (await submit(db_url, "ann", "pro")).accepted.job_id
    async with working(db_url, workflows=Moody("temporary", "temporary").workflows(), sweep=True):
        await reach(db_url, job, "SUCCEEDED")
    uses = [tuple(row) for row in read(db_url, USES, job)]
    assert uses == [("job", 0), ("failed_ms", 1), ("failed_ms", 2), ("run_ms", 3)]
    [row] = read(db_url, "SELECT outcome, error_class, ended_at IS NOT NULL AS ended FROM customer_jobs")
    assert tuple(row) == ("SUCCEEDED", None, True)


async def test_a_dead_job_is_followed_told_and_metered_again_after_a_redrive(db_url: str) -> None:
    job = (await submit(db_url, "ann", "pro")).accepted.job_id
    moody = Moody("permanent")
    async with working(db_url, workflows=moody.workflows(), sweep=True):
        await reach(db_url, job, "DEAD")
        assert read(db_url, "SELECT outcome, error_class FROM customer_jobs") == [("DEAD", "permanent")]
        async with await connect(db_url, name="test") as connection:
            registry = registered(make_settings(), moody.workflows())
            await admin.redrive_job(connection, registry, job)
        await reach(db_url, job, "SUCCEEDED")
    uses = [tuple(row) for row in read(db_url, USES, job)]
    assert uses == [("job", 0), ("failed_ms", 1), ("run_ms", 1)], "the same attempt number, another attempt"
    topics = [
        row.topic for row in read(db_url, "SELECT topic FROM customer_notifications ORDER BY created_at")
    ]
    assert topics == ["job-dead", "job-succeeded"]


async def test_a_crash_found_by_the_sweeper_is_metered_like_a_failure(db_url: str) -> None:
    job = (await submit(db_url, "ann", "vip")).accepted.job_id
    async with await connect(db_url, name="claimer") as connection:
        await admit(connection, 1, "customers")
    write(db_url, "UPDATE tandem.lease SET expires_at = clock_timestamp() - interval '1 s'")
    async with working(db_url, workflows=Moody().workflows(), sweep=True):
        await reach(db_url, job, "SUCCEEDED")
    uses = [tuple(row) for row in read(db_url, USES, job)]
    assert uses == [("job", 0), ("failed_ms", 1), ("run_ms", 1)], "the crash is refunded, and metered"


async def test_a_cancelled_job_is_closed_and_keeps_its_line(db_url: str) -> None:
    job = (await submit(db_url, "ann", "pro")).accepted.job_id
    async with await connect(db_url, name="test") as connection:
        registry = registered(make_settings())
        answer = await service.cancel_job(connection, registry, "ann", "text-keywords", job)
    assert answer == "CANCELLED"
    assert read(db_url, "SELECT outcome FROM customer_jobs") == [("CANCELLED",)]
    assert [tuple(row) for row in read(db_url, USES, job)] == [("job", 0)]


TOLD: dict[str, list[str]] = {
    "temporary": ["job-succeeded"],
    "temporary temporary": ["job-failing", "job-succeeded"],
    "network network network": ["job-failing", "job-succeeded"],
    "resource": ["job-failing", "job-succeeded"],
    "auth": ["job-dead"],
    "temporary temporary temporary temporary": ["job-failing", "job-dead"],
    "network network network network": ["job-failing", "job-dead"],
    "resource resource resource resource resource resource": ["job-failing", "job-dead"],
}
"""What fails one after the other, and what the customer is told of it (product page, section 3, point 6)."""


async def test_who_is_told_when_follows_the_error_class(db_url: str) -> None:
    tries: Counter[str] = Counter()

    async def fail_as_told(order: Order, _: Any) -> dict[str, Any]:
        failures = order.input.text.split()
        tries[order.input.text] += 1
        if tries[order.input.text] <= len(failures):
            raise HandlerError("it fails", error_class=failures[tries[order.input.text] - 1])
        return {}

    workflows = {"text-keywords": Workflow("text-keywords", Given, fail_as_told, {})}  # type: ignore[arg-type]
    jobs = {text: (await submit(db_url, "ann", "vip", input={"text": text})).accepted.job_id for text in TOLD}
    async with working(db_url, workflows=workflows, sweep=True):
        for text, job in jobs.items():
            await reach(db_url, job, "DEAD" if "job-dead" in TOLD[text] else "SUCCEEDED")
    query = "SELECT topic FROM customer_notifications WHERE job_id = %s ORDER BY created_at"
    assert {text: [row.topic for row in read(db_url, query, job)] for text, job in jobs.items()} == TOLD
    failed = "SELECT count(*) AS n FROM customer_usage WHERE what = 'failed_ms' AND job_id = %s"
    for text, job in jobs.items():
        assert read(db_url, failed, job) == [(len(text.split()),)], text


def test_ledger_prices_and_audit_are_append_only(db_url: str) -> None:
    for statement in (
        "DELETE FROM customer_usage",
        "UPDATE customer_price_lists SET monthly_fee = 0",
        "TRUNCATE customer_audit",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation):
            write(db_url, statement)


async def test_quota_days_agree_with_the_ledger(db_url: str) -> None:
    for customer, tier in (("a", "vip"), ("b", "premium"), ("c", "pro"), ("d", "free")):
        for _ in range(3):
            await submit(db_url, customer, tier)
    query = (
        "SELECT customer_id, sum(accepted) AS n FROM customer_quota_days GROUP BY customer_id"
        " EXCEPT SELECT customer_id, sum(quantity) FROM customer_usage WHERE what IN ('job', 'overage')"
        " GROUP BY customer_id"
    )
    assert read(db_url, query) == []


async def test_meeting_twice_makes_one_customer(db_url: str) -> None:
    async with await connect(db_url, name="test") as connection:
        first = await service.meet(connection, Caller("ann", None))
        second = await service.meet(connection, Caller("ann", "free"))
    assert first.customer.created_at == second.customer.created_at


async def test_waiting_longer_than_the_tier_allows_ends_as_expired_and_is_told(db_url: str) -> None:
    for customer, tier in (("a", "premium"), ("b", "pro"), ("c", "free"), ("d", "vip")):
        await submit(db_url, customer, tier, clock_offset="-40 minutes", notify=False)
    await submit(db_url, "e", "pro", clock_offset="-121 minutes", notify=False)
    async with working(db_url, workflows=Moody().workflows(), sweep=True):
        await eventually_async(lambda: len(read(db_url, "SELECT 1 AS n FROM tandem.done")) == 5, timeout=30)
    ended = read(db_url, "SELECT customer_id, outcome, error_class FROM customer_jobs ORDER BY customer_id")
    assert [tuple(row) for row in ended] == [
        ("a", "DEAD", "expired"),
        ("b", "SUCCEEDED", None),
        ("c", "SUCCEEDED", None),
        ("d", "SUCCEEDED", None),
        ("e", "DEAD", "expired"),
    ]
    told = read(db_url, "SELECT customer_id, topic FROM customer_notifications ORDER BY customer_id")
    assert [tuple(row) for row in told] == [("a", "job-expired"), ("e", "job-expired")], "never silently"
    assert read(db_url, "SELECT count(*) AS n FROM customer_usage WHERE what = 'failed_ms'") == [(0,)]
