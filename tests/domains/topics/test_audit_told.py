"""The audit log knows what programs published through their own connections: each message once, sealed and verified."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from app.client import Message
from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.topics import audit, repository, service
from tests.support import topics
from tests.support.waiting import eventually_async

TOLD = "SELECT topic, items, detail FROM tandem.audit_entry WHERE actor = 'database' AND action = 'publish' ORDER BY id"


@pytest.fixture
async def connection(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """A connection of the sweeper's kind."""
    topics.make_topic(db_url)
    async with await connect(db_url, name="test") as opened:
        yield opened


async def seal(connection: BoundedAsyncConnection, folder: Path, count: int) -> None:
    """Seal until so many are: transactions of other databases of the server hold it up."""
    left = count

    async def done() -> bool:
        nonlocal left
        left -= await audit.seal(connection, folder)
        return left <= 0

    await eventually_async(done)
    assert left == 0


async def test_own_publishes_are_told_once_and_sealed(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    positions = topics.publish(db_url, 5)
    await seal(connection, tmp_path, 1)
    (told,) = topics.rows(db_url, TOLD)
    assert (told.topic, told.items) == (topics.TOPIC, 5)
    assert told.detail["positions"] == service.ranges(positions)
    assert await audit.seal(connection, tmp_path) == 0
    verdict = await audit.verify(connection, tmp_path)
    assert verdict.good and verdict.sealed == 1


async def test_what_was_published_with_an_entry_is_not_told_again(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    async with connection.transaction():  # both in one transaction: only the message without an entry is told
        await service.publish(connection, topics.TOPIC, [Message({}), Message({})], actor="ann")
        await connection.execute("SELECT tandem.publish(%s, '{}')", (topics.TOPIC,))
    await service.publish(connection, topics.TOPIC, [Message({})], actor="ann")
    await seal(connection, tmp_path, 3)
    (told,) = topics.rows(db_url, TOLD)
    assert told.items == 1
    last = topics.rows(db_url, "SELECT max(position) AS p FROM tandem.message")[0].p
    assert told.detail["positions"] == [[last - 1, last - 1]]
    assert (await audit.verify(connection, tmp_path)).good


async def test_late_commits_and_rollbacks(
    connection: BoundedAsyncConnection, db_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(db_url) as late, psycopg.connect(db_url) as gone:
        late.execute("SELECT tandem.publish(%s, '{}')", (topics.TOPIC,))
        gone.execute("SELECT tandem.publish(%s, '{}')", (topics.TOPIC,))
        gone.rollback()
        topics.publish(db_url, 1)
        assert await audit.seal(connection, tmp_path) == 0  # behind a transaction that runs
        late.commit()
    found: set[int] = set()

    async def all_told() -> bool:
        await audit.seal(connection, tmp_path)
        for row in topics.rows(db_url, TOLD):
            found.update(place for first, last in row.detail["positions"] for place in range(first, last + 1))
        return len(found) >= 2

    await eventually_async(all_told)
    assert found == {row.position for row in topics.rows(db_url, "SELECT position FROM tandem.message")}
    assert sum(row.items for row in topics.rows(db_url, TOLD)) == 2
    assert (await audit.verify(connection, tmp_path)).good


async def test_one_sealer_at_a_time(connection: BoundedAsyncConnection, db_url: str, tmp_path: Path) -> None:
    topics.publish(db_url, 1)
    async with await connect(db_url, name="other") as other:
        async with other.transaction():
            assert await repository.lock_chain(other)
            assert await audit.seal(connection, tmp_path) == 0
            assert not await repository.lock_chain(connection)
        await seal(connection, tmp_path, 1)
    assert (await audit.verify(connection, tmp_path)).good
