"""Stepping several connections by hand: whether one waits for another, asked of the server."""

from typing import Any

import psycopg

from tests.support.waiting import eventually_async


async def blocked_by(waiting: psycopg.AsyncConnection[Any], holder: psycopg.AsyncConnection[Any]) -> None:
    """Return once the server says that `waiting` waits for a lock that `holder` has."""
    pid, other = waiting.info.backend_pid, holder.info.backend_pid
    async with await psycopg.AsyncConnection.connect(_address(holder), autocommit=True) as observer:

        async def blocked() -> bool:
            row = await (await observer.execute("SELECT pg_blocking_pids(%s)", (pid,))).fetchone()
            return row is not None and other in row[0]

        await eventually_async(blocked)


def _address(connection: psycopg.AsyncConnection[Any]) -> str:
    password = connection.info.password
    return f"{connection.info.dsn} password='{password}'" if password else connection.info.dsn
