"""A connection that is opened again: one at a time, and not in a rush when it fails at once."""

import asyncio
from typing import Any

import psycopg
import pytest

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.database.reconnecting import Reconnecting
from app.errors import Unavailable


def opener(url: str, opened: list[BoundedAsyncConnection]) -> Any:
    async def open_connection() -> BoundedAsyncConnection:
        opened.append(await connect(url, name="test"))
        return opened[-1]

    return open_connection


async def test_who_asks_at_once_gets_one_connection(db_url: str) -> None:
    opened: list[BoundedAsyncConnection] = []
    holder = Reconnecting("test", opener(db_url, opened))
    got = await asyncio.gather(*(holder.get() for _ in range(5)))
    assert len(opened) == 1 and set(got) == {opened[0]}
    assert holder.generation == 1
    await holder.close()


async def test_a_lost_connection_is_replaced_and_counted(db_url: str) -> None:
    opened: list[BoundedAsyncConnection] = []
    holder = Reconnecting("test", opener(db_url, opened), first=0.001, most=0.01)
    first = await holder.get()
    with pytest.raises(psycopg.OperationalError) as lost:
        await first.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert not holder.is_open
    await holder.lost(lost.value)
    assert await holder.get() is not first
    assert holder.generation == 2
    await holder.close()


async def test_a_connection_that_fails_at_once_is_asked_for_less_and_less_often(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    holder = Reconnecting("test", opener(db_url, []), first=0.001, most=0.064)

    def at_once(_: float, most: float) -> float:
        waits.append(most)
        return 0.0

    monkeypatch.setattr("random.uniform", at_once)
    for _ in range(8):
        await holder.get()
        await holder.lost(Unavailable("x", "failed at once"))
    assert waits == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.064]
    monkeypatch.setattr("app.database.reconnecting.monotonic", lambda: 1e12)
    await holder.get()
    holder._opened_at = 0.0
    await holder.lost(Unavailable("x", "lived long"))
    assert waits[-1] == 0.001
    await holder.close()


async def test_it_tries_until_the_server_answers(monkeypatch: pytest.MonkeyPatch, db_url: str) -> None:
    tries = 0
    real = opener(db_url, [])

    async def refuse_twice() -> BoundedAsyncConnection:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("database-unavailable", "not yet")
        return await real()  # type: ignore[no-any-return]

    holder = Reconnecting("test", refuse_twice, first=0.001, most=0.002)
    await holder.get()
    assert tries == 3
    await holder.close()
