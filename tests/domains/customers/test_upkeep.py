"""What the sweeper keeps right, what operators hear, and what nobody ever sees: a webhook's secret."""

import json
import logging
from dataclasses import asdict
from typing import Any

import psycopg
import pytest

from app.database.connect import connect
from app.domains.customers import accounts, administration, operators, repository, upkeep
from app.domains.customers.schemas import ChangeAccount
from tests.domains.customers.test_ledger import Moody, reach
from tests.domains.customers.test_notifications import Inbox, inbox
from tests.support.conversations import read, write
from tests.support.customers import make_settings, submit, working
from tests.support.waiting import eventually_async

__all__ = ["inbox"]
LINES = "SELECT job_id, outcome, error_class FROM customer_jobs ORDER BY job_id"


async def repair(url: str, drift: upkeep.Drift | None = None) -> int:
    """One run of the sweeper's step."""
    async with await connect(url, name="test") as connection:
        return await (drift or upkeep.Drift()).repair(connection)


async def reopen(url: str) -> None:
    """What an end that passed by the hooks leaves: the line of the job still open."""
    write(url, "UPDATE customer_jobs SET outcome = NULL, ended_at = NULL, error_class = NULL")


async def test_lines_of_jobs_that_ended_or_are_gone_are_ended(db_url: str) -> None:
    works, fails, gone, waits = [(await submit(db_url, "ann", "vip")).accepted.job_id for _ in range(4)]
    for table in ("ready", "blocked"):
        write(db_url, f"DELETE FROM tandem.{table} WHERE job_id <> %s", waits)  # noqa: S608 - our own names
    write(db_url, "DELETE FROM tandem.job WHERE id = %s", gone)
    for job, outcome in ((works, "SUCCEEDED"), (fails, "DEAD")):
        write(
            db_url,
            "INSERT INTO tandem.done (job_id, token, started_at, finished_at, attempt, outcome, error_class)"
            " VALUES (%s, 7, clock_timestamp() - interval '2 s', clock_timestamp(), 1, %s, %s)",
            job,
            outcome,
            "permanent" if outcome == "DEAD" else None,
        )
    assert await repair(db_url) == 3
    assert [tuple(row) for row in read(db_url, LINES)] == [
        (works, "SUCCEEDED", None),
        (fails, "DEAD", "permanent"),
        (gone, "DEAD", "lost"),
        (waits, None, None),
    ]
    [use] = read(db_url, "SELECT job_id, quantity FROM customer_usage WHERE what = 'run_ms'")
    assert (use.job_id, use.quantity >= 1900) == (works, True)
    told = read(db_url, "SELECT job_id, topic FROM customer_notifications ORDER BY job_id")
    assert [tuple(row) for row in told] == [(works, "job-succeeded"), (fails, "job-dead"), (gone, "job-dead")]
    assert await repair(db_url) == 0, "what is right stays as it is"


async def test_a_line_that_was_lost_after_its_end_is_metered_once(db_url: str) -> None:
    job = (await submit(db_url, "ann", "pro")).accepted.job_id
    async with working(db_url, workflows=Moody("temporary").workflows(), sweep=True):
        await reach(db_url, job, "SUCCEEDED")
    before = read(db_url, "SELECT * FROM customer_usage ORDER BY id")
    await reopen(db_url)
    assert await repair(db_url) == 1
    assert read(db_url, "SELECT * FROM customer_usage ORDER BY id") == before
    assert read(db_url, LINES) == [(job, "SUCCEEDED", None)]


async def test_the_repair_goes_by_pages_and_leaves_what_is_held(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PAGE", 2)
    monkeypatch.setattr(upkeep, "MOST_PAGES", 1)
    jobs = [(await submit(db_url, "ann", "vip", notify=False)).accepted.job_id for _ in range(5)]
    for table in ("ready", "blocked", "job"):
        write(db_url, f"DELETE FROM tandem.{table}")  # noqa: S608 - our own names
    drift = upkeep.Drift()
    with psycopg.connect(db_url) as held:
        held.execute("SELECT 1 FROM customer_jobs WHERE job_id = %s FOR UPDATE", (jobs[0],))
        assert [await repair(db_url, drift) for _ in range(3)] == [2, 2, 0]
    assert await repair(db_url, drift) == 1, "from the beginning again, and nobody holds it now"
    assert read(db_url, "SELECT 1 AS n FROM customer_jobs WHERE ended_at IS NULL") == []


async def test_the_history_goes_by_pages(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PAGE", 2)
    monkeypatch.setattr(upkeep, "MOST_PAGES", 1)
    for name in "abcde":
        await submit(db_url, name, "pro")
    write(db_url, "UPDATE customer_jobs SET outcome = 'SUCCEEDED', ended_at = tandem.clock()")
    history = upkeep.History()
    counted = (
        "SELECT string_agg(customer_id, '' ORDER BY customer_id) AS n FROM customers WHERE recent_ended = 1"
    )
    async with await connect(db_url, name="test") as connection:
        for expected in ("ab", "abcd", "abcde"):
            await history.refresh(connection)
            assert read(db_url, counted) == [(expected,)]
        assert await history.refresh(connection) == 0, "from the beginning again"


async def test_operators_hear_of_a_job_without_access_at_once(db_url: str, inbox: tuple[Inbox, int]) -> None:
    handler, port = inbox
    notifications = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none"}
    settings = make_settings(customers={"operator_email": "ops@example.org"}, notifications=notifications)
    denied = (await submit(db_url, "ann", "pro")).accepted.job_id
    async with working(db_url, settings, workflows=Moody("auth").workflows(), sweep=True):
        await eventually_async(lambda: handler.mails, timeout=30)
        broken = (await submit(db_url, "ann", "pro")).accepted.job_id
        await reach(db_url, broken, "SUCCEEDED")
    [(recipients, mail)] = handler.mails
    assert recipients == ["ops@example.org"]
    assert mail["Subject"] == f"Job {denied} of workflow.text-keywords has no access"
    assert "it fails" in mail.get_content()


async def test_without_an_operators_address_nothing_is_enqueued(db_url: str) -> None:
    job = (await submit(db_url, "ann", "pro")).accepted.job_id
    async with working(db_url, workflows=Moody("auth").workflows(), sweep=True):
        await reach(db_url, job, "DEAD")
    assert read(db_url, "SELECT 1 AS n FROM tandem.job WHERE kind = %s", operators.KIND) == []


async def test_a_webhooks_secret_is_told_once_and_never_shown(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await submit(db_url, "ann", "pro")
    hook = {"notify_by": "webhook", "webhook_url": "https://example.org/hook"}
    async with await connect(db_url, name="test") as connection:
        told = await accounts.change_account(
            connection, "ann", ChangeAccount(**hook), actor="ann", private=False
        )
        _, second = await administration.set_customer(
            connection, "ben", {**hook, "tier": "pro"}, actor="admin"
        )
        assert told.webhook_secret is not None
        assert second is not None
        terms = await administration.read_customer(connection, "ann")
        again = await accounts.change_account(
            connection, "ann", ChangeAccount(**hook), actor="ann", private=False
        )
        assert again.webhook_secret is None, "the same address keeps its secret"
        shown: list[Any] = [
            asdict(terms),
            (await accounts.read_account(connection, terms)).model_dump(),
            await accounts.list_notifications(connection, terms),
            await repository.list_customers(connection, after="", tier=None, most=10),
            await repository.list_audit(connection, target=None, before=2**63 - 1, most=100),
            read(db_url, "SELECT payload FROM tandem.job"),
            caplog.text,
        ]
    text = json.dumps(shown, default=str)
    assert "customer.set" in text
    assert told.webhook_secret not in text
    assert second not in text
