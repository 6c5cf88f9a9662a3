"""The check behind every test of the queue: each job stands in exactly one place, each place has its job."""

from typing import Any

import psycopg

PLACES = """
WITH place AS (
    SELECT job_id, 'ready' AS name FROM tandem.ready
    UNION ALL SELECT job_id, 'scheduled' FROM tandem.scheduled
    UNION ALL SELECT job_id, 'blocked' FROM tandem.blocked
    UNION ALL SELECT job_id, 'dependent' FROM tandem.dependent
    UNION ALL SELECT job_id, 'lease' FROM tandem.lease
    UNION ALL SELECT job_id, 'done' FROM tandem.done
)
SELECT coalesce(j.id, p.job_id), j.id IS NOT NULL, coalesce(array_agg(p.name) FILTER (WHERE p.name IS NOT NULL), '{}')
FROM tandem.job AS j FULL JOIN place AS p ON p.job_id = j.id
GROUP BY 1, 2 HAVING count(p.name) <> 1 OR NOT (j.id IS NOT NULL)
"""
COUNTS = """
SELECT (SELECT count(*) FROM tandem.ready), (SELECT count(*) FROM tandem.scheduled),
       (SELECT count(*) FROM tandem.lease), (SELECT count(*) FROM tandem.done WHERE outcome = 'SUCCEEDED'),
       (SELECT count(*) FROM tandem.done WHERE outcome = 'DEAD'),
       (SELECT count(*) FROM tandem.done WHERE outcome = 'CANCELLED')
"""
NAMES = ("ready", "scheduled", "leased", "succeeded", "dead", "cancelled")


def assert_membership(connection: psycopg.Connection[Any]) -> None:
    """No job without a membership row, none with two, no membership row without its job."""
    wrong = connection.execute(PLACES).fetchall()
    assert not wrong, f"(job, exists, places): {wrong}"


async def assert_membership_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """The same on an async connection."""
    wrong = await (await connection.execute(PLACES)).fetchall()
    assert not wrong, f"(job, exists, places): {wrong}"


def check_membership(url: str) -> None:
    """The same on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        assert_membership(connection)


def counts(url: str) -> dict[str, int]:
    """How many jobs stand where."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(COUNTS).fetchone()
    assert row is not None
    return {name: count for name, count in zip(NAMES, row, strict=True) if count}
