"""A suspect that runs long and alone does not keep other jobs from other workers."""

import asyncio

from app.database.connect import connect
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from tests.support.claims import add, rows, value
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


async def test_what_is_claimed_beside_a_long_suspect_goes_back(db_url: str) -> None:
    release, ran = asyncio.Event(), list[int]()

    async def handler(job: Job[dict[str, int]]) -> None:
        if job.payload["n"] == 0:
            await release.wait()
        ran.append(job.payload["n"])

    async def handler_of_later(_: Job[dict[str, int]]) -> None:
        ran.append(100)

    registry = Registry()
    registry.add(Kind("test", handler, payload=dict[str, int]))
    registry.add(Kind("later", handler_of_later))
    async with await connect(db_url, name="test") as connection:
        [suspect, *others] = await add(connection, 6)
        await connection.execute("UPDATE tandem.ready SET suspect = true WHERE job_id = %s", (suspect,))
        async with supervised(db_url, registry, slots=20):
            await eventually_async(lambda: rows(connection, "SELECT 1 FROM tandem.lease WHERE alone"))
            [later] = await add(connection, 1, kind="later")

            async def only_the_suspect() -> bool:
                held = await rows(connection, "SELECT job_id FROM tandem.lease")
                return held == [(suspect,)]

            await eventually_async(only_the_suspect)
            waiting = await rows(connection, "SELECT job_id, attempt FROM tandem.ready")
            assert (later, 0) in waiting, "nothing is claimed while a suspect runs alone"
            assert all(attempt == 0 for _, attempt in waiting)
            release.set()
            await eventually_async(lambda: rows(connection, "SELECT 1 FROM tandem.done OFFSET 6"))
        assert sorted(ran) == [0, 1, 2, 3, 4, 5, 100]
        assert set(others) <= {row[0] for row in await rows(connection, "SELECT job_id FROM tandem.done")}
        assert await value(connection, "SELECT count(*) FROM tandem.lease") == 0
