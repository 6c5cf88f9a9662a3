"""Three tests: of the handler, of the code that enqueues, and of both through two weeks."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from invoices import GRACE, registry, write_invoice

from workers.testing import assert_enqueued, drain, fake_clock, inline

Connection = psycopg.Connection[Any]


def reminded(connection: Connection, number: int) -> bool:
    row = connection.execute("SELECT reminded_at FROM invoice WHERE number = %s", (number,)).fetchone()
    return row is not None and row[0] is not None


def test_who_has_not_paid_is_reminded(connection: Connection) -> None:
    connection.execute("INSERT INTO invoice (number, amount) VALUES (7, 120)")
    ran = inline(registry, "invoice.remind", {"invoice": 7}, connection=connection)
    assert ran.result == {"reminded": True}
    assert reminded(connection, 7)


def test_an_invoice_plans_its_reminder(connection: Connection) -> None:
    write_invoice(connection, 7, Decimal(120))
    assert_enqueued(
        connection, "invoice.remind", payload={"invoice": 7}, run_at=GRACE, within=timedelta(minutes=1)
    )


def test_after_two_weeks_only_the_unpaid_invoice_is_reminded(connection: Connection) -> None:
    with fake_clock(connection) as clock:
        write_invoice(connection, 7, Decimal(120))
        write_invoice(connection, 8, Decimal(80))
        connection.execute("UPDATE invoice SET paid = true WHERE number = 8")
        clock.advance(GRACE - timedelta(days=1))
        assert len(drain(connection, registry)) == 0
        clock.advance(timedelta(days=1))
        assert len(drain(connection, registry).succeeded) == 2
    assert reminded(connection, 7)
    assert not reminded(connection, 8)
