"""The queue's database-wide figures for gauges: what waits, runs and died, and how late the sweep is.

Synchronous, because a scrape asks from a thread. Everything else of the queue is in store.py.
"""

from typing import Any, NamedTuple

import psycopg

from app.queue.store import statement


class QueueFigures(NamedTuple):
    """One declared queue; counts end at the caller's limit. `blocked` waits for admission to a managed queue.

    `oldest_blocked_seconds` is the longest of these waits, of as many jobs as are counted.
    """

    queue: str
    ready: int
    scheduled: int
    blocked: int
    running: int
    oldest_seconds: float
    oldest_blocked_seconds: float
    paused: bool


class Lag(NamedTuple):
    """Seconds by which the earliest expired lease and the earliest due job are overdue, and the dead letters kept."""

    rescue_seconds: float
    promote_seconds: float
    dead_letters: int


def measure_queues(connection: psycopg.Connection[Any], *, most: int) -> list[QueueFigures]:
    """The figures of each declared queue, in order of their names."""
    cursor = connection.execute(statement("admin", "measure_queues"), {"most": most})
    return [QueueFigures(*row) for row in cursor.fetchall()]


def measure_lag(connection: psycopg.Connection[Any], *, most: int) -> Lag:
    """How late the sweep is."""
    row = connection.execute(statement("admin", "measure_lag"), {"most": most}).fetchone()
    return Lag(*row) if row is not None else Lag(0.0, 0.0, 0)
