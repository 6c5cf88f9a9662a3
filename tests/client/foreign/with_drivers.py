"""A program that uses the client with asyncpg and with SQLAlchemy, async."""

import asyncio
import sys
from typing import Any

import asyncpg
import tandem
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine


async def with_asyncpg(host: str, port: int, user: str, database: str) -> None:
    """Roll back one job, commit another beside a row of our own."""
    connection: Any = await asyncpg.connect(host=host, port=port, user=user, database=database, ssl=False)
    await connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
    try:
        async with connection.transaction():
            await tandem.aio.enqueue(connection, "order.ship", {"order": 1})
            raise LookupError
    except LookupError:
        print("asyncpg rolled back:", await connection.fetchval("SELECT count(*) FROM tandem.job"))
    async with connection.transaction():
        await connection.execute("INSERT INTO orders VALUES (1)")
        await tandem.aio.enqueue(connection, "order.ship", {"order": 1})
        await tandem.aio.enqueue_copy(connection, [tandem.Job("order.ship", {"order": n}) for n in range(5)])
    print("asyncpg committed:", await connection.fetchval("SELECT count(*) FROM tandem.job"))
    await connection.close()


async def with_sqlalchemy(url: str) -> None:
    """The same through an AsyncSession."""
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session:
        await tandem.aio.enqueue(session, "order.ship", {"order": 2})
        await session.rollback()
        await session.execute(text("INSERT INTO orders VALUES (2)"))
        await tandem.aio.enqueue(session, tandem.Job("order.ship", {"order": 2}, priority=7))
        await session.commit()
        count = await session.scalar(text("SELECT count(*) FROM tandem.job"))
        print(engine.dialect.driver, "committed:", count)
    await engine.dispose()


async def main(host: str, port: str, user: str, database: str) -> None:
    """Print one line per fact; the test compares them."""
    await with_asyncpg(host, int(port), user, database)
    for driver in ("asyncpg", "psycopg"):
        place = f"postgresql+{driver}://{user}@/{database}?host={host}&port={port}"
        await with_sqlalchemy(place)
        engine = create_async_engine(place)
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM orders WHERE id = 2"))
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
