"""Retention drops whole partitions of one topic, never what a group has not read unless the topic says so."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.database.connect import connect
from app.database.deadline import BoundedAsyncConnection
from app.domains.topics import repository, upkeep
from tests.support import topics
from tests.support.topics import GROUP, TOPIC

LOG = "SELECT count(*) AS n FROM tandem.message"


@pytest.fixture
async def later(db_url: str) -> AsyncIterator[BoundedAsyncConnection]:
    """The sweeper's connection, eight days on."""
    async with await connect(db_url, name="sweeper") as connection:
        await connection.execute("SET tandem.clock_offset = '8 days'")
        yield connection


async def test_old_partitions_go_and_positions_move_on(db_url: str, later: BoundedAsyncConnection) -> None:
    topics.make_topic(db_url, groups=())
    topics.make_topic(db_url, "kept", groups=(), retention="30 days")
    topics.publish(db_url, 3)
    topics.publish(db_url, 2, topic="kept")
    await upkeep.keep_logs(later)  # a day is over: positions move on to the next partition
    [position] = topics.publish(db_url)
    assert position > 1_000_000_000
    await upkeep.keep_logs(later, span=timedelta(days=365))
    assert topics.rows(db_url, LOG)[0].n == 3  # the new one, and the other topic's
    names = "SELECT relname FROM pg_class WHERE relname ~ '^message_[0-9]+_3$' AND relkind = 'r'"
    assert len(topics.rows(db_url, names)) == 2  # two ahead, for both topics


@pytest.mark.parametrize("drop_unread", [False, True])
async def test_what_a_group_has_not_read_stays_unless_the_topic_says_so(
    db_url: str, later: BoundedAsyncConnection, drop_unread: bool
) -> None:
    topics.make_topic(db_url, drop_unread=drop_unread)
    topics.publish(db_url, 3)
    await upkeep.keep_logs(later)
    await upkeep.keep_logs(later)
    left = topics.rows(db_url, LOG)[0].n
    [topic] = await repository.list_topics(later)
    assert (left, topic["lost"]) == ((0, 3) if drop_unread else (3, 0))


async def test_the_reconciliation_names_what_is_missing(db_url: str, later: BoundedAsyncConnection) -> None:
    topics.make_topic(db_url)
    positions = topics.publish(db_url, 5)
    found = await repository.verify_group(later, TOPIC, GROUP)
    assert (found["published"], found["waiting"], found["missing"]) == (5, 5, 0)
    lost = "DELETE FROM tandem.job WHERE (payload ->> 'position')::bigint = %s"
    await later.execute(lost.encode(), (positions[2],))
    found = await repository.verify_group(later, TOPIC, GROUP)
    assert (found["missing"], found["missing_positions"]) == (1, [positions[2]])


async def test_message_ids_are_forgotten_after_their_window(
    db_url: str, later: BoundedAsyncConnection
) -> None:
    topics.make_topic(db_url)
    topics.publish(db_url, 1, dedup_key="k")
    await upkeep.keep_logs(later)
    assert topics.rows(db_url, "SELECT count(*) AS n FROM tandem.message_dedup")[0].n == 0
