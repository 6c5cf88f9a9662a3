"""Admission stays flat under a pinned snapshot: the pages one call reads do not grow with what has gone before."""

from typing import Any

import psycopg
import pytest

from tests.queue.test_flatness import IN_A_QUIET_MOMENT, PER_ROUND, assert_flat, pages, pinned, settle
from tests.support.admission import admit, finish, limit, manage
from tests.support.claims import LEASE, WORKER, add, value
from workers.sweeper.floors import MoveFloors
from workers.sweeper.step import Settled

KEYS = 8
ROUNDS = 6
FREED = "INSERT INTO tandem.touch (queue, partition_key) SELECT 'default', 'k' || n FROM generate_series(0, 7) AS n"


def params(want: int) -> dict[str, Any]:
    """What the statement takes."""
    finishes = {"job_ids": "{}", "tokens": "{}", "ran_ms": "{}", "results": None, "ttls": None}
    who = {"queue": "default", "worker": WORKER, "token": 1, "lease": LEASE}
    return {**finishes, **who, "want": want, "thorough": True}


async def work(connection: psycopg.AsyncConnection[Any]) -> None:
    for key in range(KEYS):
        await add(connection, PER_ROUND // KEYS, partition_key=f"k{key}")
    while jobs := await admit(connection, 50):
        await finish(connection, jobs)


@pytest.mark.parametrize(
    ("options", "limited"),
    [
        ({}, None),
        ({"ordered": True}, None),
        ({}, "queue:default"),
        ({"key_limit": 2}, "kind:test"),
    ],
    ids=["no limit", "ordered", "queue limit", "key and kind limit"],
)
async def test_an_admission_reads_no_more_pages_the_more_has_gone(
    db_url: str, options: dict[str, Any], limited: str | None
) -> None:
    async with pinned(db_url) as connection:
        await manage(connection, **options)
        if limited is not None:
            await limit(connection, limited, max_running=60)
        readings, mover = [], MoveFloors(Settled())
        for nth in range(ROUNDS):
            await work(connection)
            await settle(mover.settled, connection)
            await mover.run_once(connection)
            for key in range(KEYS):
                await add(connection, 4, partition_key=f"k{key}")
            both = []
            for _ in range(
                2
            ):  # an ANALYZE of the server's own has plans made anew, and the pages of the catalog count, too
                await connection.execute("DELETE FROM tandem.lease")
                await connection.execute(FREED)
                both.append(await pages(connection, "limits", "admit_jobs", params(KEYS)))
            readings.append(min(both))
            if nth == 0:
                assert await value(connection, "SELECT count(*) FROM tandem.lease") == KEYS
            await connection.execute("DELETE FROM tandem.lease")
            await connection.execute(FREED)
            while jobs := await admit(connection, 50):
                await finish(connection, jobs)
            if nth == 1:
                await connection.execute(IN_A_QUIET_MOMENT)
        assert_flat(readings)
        # Whatever statistics of a moment without jobs have the planner prefer: it is no scan of what has died.
        assert readings[-1] <= 1.1 * readings[2] + 10, readings


async def test_turns_of_keys_with_tiny_jobs_are_found_past_no_dead_ones(db_url: str) -> None:
    """Each turn that is taken leaves a dead one: the time by which turns are sorted has to grow away from them."""
    async with pinned(db_url) as connection:
        await manage(connection)
        for key in range(KEYS):
            await add(connection, 600, partition_key=f"k{key}")
        readings = []
        for _ in range(8):
            for _ in range(12):
                await finish(connection, await admit(connection, 40), ran_ms=0.004)
            readings.append(await pages(connection, "limits", "admit_jobs", params(KEYS)))
            await connection.execute("DELETE FROM tandem.lease")
            await connection.execute(FREED)
        assert await value(connection, "SELECT count(*) FROM tandem.blocked") > 0, (
            "somebody waits until the end"
        )
        assert max(readings[4:]) <= 1.25 * max(readings[:2]) + 20, readings
