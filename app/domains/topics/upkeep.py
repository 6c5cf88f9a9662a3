"""What the sweeper does for topics: history for new groups and replays, partitions, letting go of what is old."""

import logging
from datetime import timedelta

import psycopg
from psycopg import errors

from app.domains.topics import repository, service
from app.domains.topics.repository import Connection

AHEAD = 2
BATCH = 1_000
_log = logging.getLogger(__name__)


async def fill(connection: Connection) -> int:
    """Carry on with every open fill for some seconds."""
    return await service.run_fills(connection)


async def keep_logs(connection: Connection, *, span: timedelta = timedelta(days=1)) -> int:
    """Add partitions ahead, start a new one each `span`, drop those past their retention, forget old message ids."""
    current, old, topics, partitions = await repository.find_partitions(connection, every=span)
    moved = 0
    for topic in topics:
        for number in range(current, current + AHEAD + 1):
            if (topic, number) not in partitions:
                async with connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '500ms'")
                    moved += await repository.add_partition(connection, topic, number)
    if old:
        await repository.start_partition(connection, current + 1)
    for topic, number in sorted(partitions):
        if number < current:
            moved += await _drop(connection, topic, number)
    while (found := await repository.expire_dedup(connection, most=BATCH)) > 0:
        moved += found
    return moved


async def _drop(connection: Connection, topic: int, number: int) -> int:
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '200ms'")
            outcome = await repository.drop_partition(connection, topic, number)
    except (errors.LockNotAvailable, errors.DeadlockDetected, psycopg.errors.ObjectInUse) as error:
        _log.info("partition %s of topic %s is not dropped now: %s", number, topic, error)
        return 0
    if outcome == "unread":
        _log.warning(
            "partition %s of topic %s is past its retention and kept: a group has not read it", number, topic
        )
    return int(outcome == "dropped")
