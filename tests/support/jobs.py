"""Jobs as a test's outside sees them: enqueue from a connection of its own, ask where they stand."""

import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from app.queue.enqueue import enqueue_many
from app.queue.job import NewJob


def enqueue_all(url: str, jobs: Sequence[NewJob]) -> list[int]:
    """Enqueue in one committed transaction; answers the ids."""
    with psycopg.connect(url) as connection:
        return [one.job_id for one in enqueue_many(connection, jobs)]


def status(url: str, job_id: int) -> Any:
    """The job's row of job_status."""
    query = (
        "SELECT status, waiting_for, attempt, crashes, next_attempt_at, worker, error_class, reason"
        " FROM tandem.job_status WHERE job_id = %s"
    )
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as connection:
        return connection.execute(query, (job_id,)).fetchone()


def outcome(url: str, job_id: int) -> str:
    """PENDING, RUNNING, SUCCEEDED, DEAD or CANCELLED."""
    return str(status(url, job_id).status)


def outcomes(url: str, ids: Sequence[int]) -> list[str]:
    """The status of each job, in the order given."""
    query = "SELECT job_id, status FROM tandem.job_status WHERE job_id = ANY (%s)"
    with psycopg.connect(url, autocommit=True) as connection:
        found: dict[int, str] = dict(connection.execute(query, (list(ids),)).fetchall())
    return [found[job_id] for job_id in ids]


def tries(url: str, job_id: int) -> list[Any]:
    """The failed tries that were kept, in order."""
    query = (
        "SELECT attempt, verdict, error_class, fingerprint, message, traceback FROM tandem.attempt"
        " WHERE job_id = %s ORDER BY finished_at"
    )
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as connection:
        return connection.execute(query, (job_id,)).fetchall()


def unfinished(url: str) -> int:
    """How many jobs have not ended."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM tandem.job) - (SELECT count(*) FROM tandem.done)"
        ).fetchone()
    assert row is not None
    return int(row[0])


def now() -> float:
    """Seconds on the clock that only moves forward."""
    return time.monotonic()
