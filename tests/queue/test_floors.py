"""The safe floor: it follows what is claimed, and never passes a row that can still appear."""

from typing import Any

import psycopg

from app.database.deadline import BoundedAsyncConnection
from app.queue.store import Store
from tests.support.claims import add, claim, every_lane, value, worker_connection
from tests.support.waiting import eventually_async
from workers.sweeper.floors import MoveFloors
from workers.sweeper.step import Settled

DEFAULT_LANE = ("default", 5)


async def safe_floor(connection: psycopg.AsyncConnection[Any], queue: str = "default") -> int:
    return (await Store(connection).read_floors([queue])).get((queue, 5), 0)


async def move_to(mover: MoveFloors, connection: BoundedAsyncConnection, floor: int) -> None:
    """Move until the floor is there: a sample settles only when every transaction of the server has ended."""

    async def there() -> bool:
        await mover.run_once(connection)
        return await safe_floor(connection) == floor

    await eventually_async(there)


async def declare(connection: psycopg.AsyncConnection[Any], *queues: str) -> None:
    await Store(connection).declare_queues(queues or ("default",))


async def test_the_floor_follows_what_is_claimed(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await declare(connection)
        mover = MoveFloors(Settled())
        await add(connection, 5)
        await move_to(mover, connection, 1)
        await claim(connection, 3)
        await move_to(mover, connection, 4)
        await claim(connection, 2)
        await move_to(mover, connection, 6)  # past the sample, nothing is left


async def test_the_floor_waits_for_a_producer_that_has_its_position_but_has_not_committed(
    db_url: str,
) -> None:
    async with (
        await worker_connection(db_url) as mine,
        await psycopg.AsyncConnection.connect(db_url) as late,
    ):
        await declare(mine)
        mover = MoveFloors(Settled())
        [missing] = await add(late)
        for _ in range(3):
            await mover.run_once(mine)
        assert await safe_floor(mine) <= 1
        await late.commit()
        assert [job.id for job in await claim(mine, lanes=every_lane(floor=await safe_floor(mine)))] == [
            missing
        ]


async def test_the_floor_waits_for_a_late_producer_behind_others_that_end_earlier(db_url: str) -> None:
    # The second producer's transaction id lies above the highest one that has ended: a snapshot's xmax is no bound.
    async with (
        await worker_connection(db_url) as mine,
        await psycopg.AsyncConnection.connect(db_url) as first,
        await psycopg.AsyncConnection.connect(db_url) as second,
    ):
        await declare(mine)
        mover = MoveFloors(Settled())
        await add(first)
        [missing] = await add(second)
        await mover.run_once(mine)
        await first.commit()
        await claim(mine)
        for _ in range(3):
            await mover.run_once(mine)
        await second.commit()
        floor = await safe_floor(mine)
        assert [job.id for job in await claim(mine, lanes=every_lane(floor=floor))] == [missing], floor


async def test_the_floor_waits_for_a_producer_inside_a_savepoint(db_url: str) -> None:
    async with await worker_connection(db_url) as mine, await psycopg.AsyncConnection.connect(db_url) as late:
        await declare(mine)
        mover = MoveFloors(Settled())
        await late.execute("SAVEPOINT here")
        [missing] = await add(late)
        await late.execute("RELEASE here")
        await add(mine, 3)
        await claim(mine)
        for _ in range(3):
            await mover.run_once(mine)
        assert await safe_floor(mine) <= 1
        await late.commit()
        assert [job.id for job in await claim(mine, lanes=every_lane(floor=await safe_floor(mine)))] == [
            missing
        ]


async def test_an_open_reader_does_not_hold_the_floor(db_url: str) -> None:
    async with (
        await worker_connection(db_url) as mine,
        await psycopg.AsyncConnection.connect(db_url) as reader,
    ):
        await declare(mine)
        await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await reader.execute("SELECT count(*) FROM tandem.job")
        mover = MoveFloors(Settled())
        await add(mine, 3)
        await claim(mine)
        await move_to(mover, mine, 4)


async def test_the_table_of_floors_stays_small(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await declare(connection, "default", "mail")
        mover = MoveFloors(Settled())
        for _ in range(30):
            await add(connection, 2)
            await claim(connection)
            await mover.run_once(connection)
        assert await value(connection, "SELECT count(*) FROM tandem.lane_floor") <= 20


async def test_floors_of_nothing_declared_or_nothing_enqueued_move_nothing(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        mover = MoveFloors(Settled())
        assert (await mover.run_once(connection)).rows == 0
        await declare(connection)
        for _ in range(2):
            await mover.run_once(connection)
        assert await safe_floor(connection) <= 1
        [job] = await add(connection)
        assert [
            one.id for one in await claim(connection, lanes=every_lane(floor=await safe_floor(connection)))
        ] == [job]


async def test_a_restarted_mover_needs_no_memory(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await declare(connection)
        await add(connection, 5)
        await claim(connection, 3)
        await move_to(MoveFloors(Settled()), connection, 4)
        mover = MoveFloors(Settled())
        await mover.run_once(connection)
        mover.reset()
        await mover.run_once(connection)
        assert await safe_floor(connection) == 4
