"""Admission stays flat under a pinned snapshot: the pages one call reads do not grow with what has gone before."""

from typing import Any

import psycopg
import pytest

from tests.queue.test_flatness import PER_ROUND, ROUNDS, assert_flat, pages, pinned, settle
from tests.support.admission import admit, finish, manage
from tests.support.claims import LEASE, WORKER, add
from workers.sweeper.floors import MoveFloors
from workers.sweeper.step import Settled

KEYS = 8
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


@pytest.mark.parametrize("options", [{"key_limit": 2}, {}])
async def test_an_admission_reads_no_more_pages_the_more_has_gone(
    db_url: str, options: dict[str, Any]
) -> None:
    async with pinned(db_url) as connection:
        await manage(connection, **options)
        readings, mover = [], MoveFloors(Settled())
        for _ in range(ROUNDS):
            await work(connection)
            await settle(mover.settled, connection)
            await mover.run_once(connection)
            for key in range(KEYS):
                await add(connection, 2, partition_key=f"k{key}")
            # Twice: an ANALYZE of the server's own has plans made anew, and the pages of the catalog count, too.
            both = [await pages(connection, "limits", "admit_jobs", params(8)) for _ in range(2)]
            readings.append(min(both))
            await connection.execute("UPDATE tandem.lease SET token = 2")
            while jobs := await admit(connection, 50):
                await finish(connection, jobs)
            await connection.execute("DELETE FROM tandem.lease")
            await connection.execute(FREED)
        assert_flat(readings)
