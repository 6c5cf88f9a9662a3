"""Invoices, and their one handler: who has not paid after two weeks is reminded, exactly once."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from app.queue.enqueue import enqueue
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.running import Job

GRACE = timedelta(days=14)
registry = Registry()


@dataclass
class Reminder:
    """The payload: which invoice. What it says stands in its table."""

    invoice: int


def write_invoice(connection: psycopg.Connection[Any], number: int, amount: Decimal) -> None:
    """Write an invoice and plan its reminder, in the caller's transaction."""
    connection.execute("INSERT INTO invoice (number, amount) VALUES (%s, %s)", (number, amount))
    enqueue(connection, NewJob("invoice.remind", Reminder(number), run_at=datetime.now(UTC) + GRACE))


@registry.handler("invoice.remind", payload=Reminder)
async def remind(job: Job[Reminder]) -> None:
    """Note the reminder, unless the invoice was paid meanwhile."""
    async with job.transaction() as tx:
        cursor = await tx.connection.execute(
            "UPDATE invoice SET reminded_at = tandem.clock() WHERE number = %s AND NOT paid RETURNING number",
            (job.payload.invoice,),
        )
        tx.result = {"reminded": await cursor.fetchone() is not None}
