"""How full the customers' side is, in one statement over a synchronous connection, for the gauges."""

from typing import Any, NamedTuple

import psycopg

from app.domains.customers.repository import AREA
from app.queue.store import statement


class Load(NamedTuple):
    """The database-wide gauges: capacity, jobs that count against it, and which workflows are healthy."""

    capacity: int
    load: int
    healthy: dict[str, bool]


def measure_load(connection: psycopg.Connection[Any], *, late: float, most: int) -> Load:
    """The gauges; a canary without an answer for `late` seconds is unhealthy."""
    row = connection.execute(statement(AREA, "measure_load"), {"late": late, "most": most}).fetchone()
    return Load(*row) if row is not None else Load(0, 0, {})
