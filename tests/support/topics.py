"""Topics as tests drive them: make topics and groups, publish, run fills, look at what each group was given."""

from collections import Counter
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from app.client import Message, publish_many
from tests.support.waiting import eventually

TOPIC = "camera.events"
GROUP = "ai-consumer-group"


def make_topic(url: str, name: str = TOPIC, groups: tuple[str, ...] = (GROUP,), **options: Any) -> None:
    """A topic with groups that get every message from now on, their fills finished."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = ", ".join(f"{option} => %({option})s" for option in options)
        call = f"SELECT tandem.create_topic(%(name)s{', ' if names else ''}{names})"
        connection.execute(call.encode(), {"name": name, **options})
        for group in groups:
            connection.execute("SELECT tandem.create_topic_group(%s, %s)", (name, group))
    fill_all(url)


def fill_all(url: str, *, most: int = 1000) -> int:
    """Run every open fill to its end; answers how many deliveries were made.

    Transactions of other databases on the server hold the end of a fill up, too.
    """
    total = 0
    with psycopg.connect(url, autocommit=True) as connection:

        def finished() -> bool:
            nonlocal total
            opened = connection.execute(
                "SELECT id FROM tandem.topic_fill WHERE finished_at IS NULL"
            ).fetchall()
            for (fill,) in opened:
                row = connection.execute("SELECT tandem.fill_topic(%s, %s)", (fill, most)).fetchone()
                total += (row[0] or 0) if row else 0
            return not opened

        eventually(finished, every=0.001)
    return total


def publish(url: str, count: int = 1, topic: str = TOPIC, **options: Any) -> list[int]:
    """Publish so many messages {"n": 0}, … in one committed transaction; answers their positions."""
    with psycopg.connect(url) as connection:
        made = publish_many(connection, topic, [Message({"n": n}, **options) for n in range(count)])
    return [one.position for one in made]


def deliveries(url: str, group: str = GROUP, topic: str = TOPIC) -> Counter[int]:
    """How many deliveries of each position the group was ever given."""
    query = "SELECT payload FROM tandem.job WHERE queue = tandem.topic_queue(%s, %s)"
    with psycopg.connect(url, autocommit=True) as connection:
        return Counter(row[0]["position"] for row in connection.execute(query, (topic, group)))


def rows(url: str, query: str, *params: Any) -> list[Any]:
    """Rows of a fixed query, columns by name."""
    with psycopg.connect(url, autocommit=True, row_factory=namedtuple_row) as connection:
        return connection.execute(query.encode(), params or None).fetchall()
