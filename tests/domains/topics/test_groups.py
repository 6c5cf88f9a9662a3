"""New groups and replays: the log is delivered exactly as asked, whoever commits late."""

import random
import threading
import time
from functools import partial
from typing import Any

import psycopg
import pytest

from app.client import publish
from app.database.connect import connect
from app.domains.topics import consuming, repository, service
from app.domains.topics.schemas import Where
from tests.support import topics
from tests.support.topics import GROUP, TOPIC


def new_group(url: str, name: str, start: int | None = None) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT tandem.create_topic_group(%s, %s, from_position => %s)", (TOPIC, name, start)
        )


def test_a_new_group_starts_at_the_beginning_at_a_position_or_now(db_url: str) -> None:
    topics.make_topic(db_url)
    old = topics.publish(db_url, 25)
    new_group(db_url, "all", 0)
    new_group(db_url, "half", old[12])
    new_group(db_url, "now")
    late = topics.publish(db_url, 5)
    topics.fill_all(db_url, most=10)
    everything = dict.fromkeys(old + late, 1)
    assert topics.deliveries(db_url, "all") == everything
    assert topics.deliveries(db_url, "half") == dict.fromkeys(old[12:] + late, 1)
    assert topics.deliveries(db_url, "now") == dict.fromkeys(late, 1)
    assert topics.deliveries(db_url, GROUP) == everything


def test_what_a_running_publisher_commits_later_reaches_a_new_group_once(db_url: str) -> None:
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as slow, psycopg.connect(db_url) as slower:
        first = publish(slow, TOPIC, {"n": 1}).position
        second = publish(slower, TOPIC, {"n": 2}).position
        new_group(db_url, "now")
        new_group(db_url, "all", 0)
        [third] = topics.publish(db_url)
        with psycopg.connect(db_url, autocommit=True) as sweeper:
            for _ in range(3):
                sweeper.execute(
                    "SELECT tandem.fill_topic(id, 100) FROM tandem.topic_fill WHERE finished_at IS NULL"
                )
        assert topics.deliveries(db_url, "now") == {third: 1}
        slow.commit()
        with psycopg.connect(db_url, autocommit=True) as sweeper:
            for _ in range(3):
                sweeper.execute(
                    "SELECT tandem.fill_topic(id, 100) FROM tandem.topic_fill WHERE finished_at IS NULL"
                )
        assert topics.deliveries(db_url, "now") == {first: 1, third: 1}  # not held up by the slower one
        slower.commit()
    topics.fill_all(db_url)
    expected = {first: 1, second: 1, third: 1}
    assert (
        topics.deliveries(db_url, "now")
        == topics.deliveries(db_url, "all")
        == topics.deliveries(db_url)
        == expected
    )


def test_a_fill_whose_publisher_rolls_back_comes_to_its_end(db_url: str) -> None:
    topics.make_topic(db_url)
    with psycopg.connect(db_url) as doomed:
        publish(doomed, TOPIC, {"n": 1})
        new_group(db_url, "now")
        doomed.rollback()
    topics.fill_all(db_url)
    assert not topics.deliveries(db_url, "now")


@pytest.mark.parametrize("seed", [1, 2])
def test_no_message_is_skipped_or_doubled_by_random_commit_delays(db_url: str, seed: int) -> None:
    """Publishers hold their transactions for random times while groups are made and fills run."""
    topics.make_topic(db_url)
    dice = random.Random(seed)
    plans = [[(dice.randint(1, 20), dice.random() * 0.06) for _ in range(6)] for _ in range(5)]
    published: list[int] = []
    lock, running = threading.Lock(), threading.Event()

    def publisher(plan: list[tuple[int, float]]) -> None:
        with psycopg.connect(db_url) as connection:
            for count, delay in plan:
                made = [publish(connection, TOPIC, {"n": n}).position for n in range(count)]
                time.sleep(delay)  # layout: sleep-in-test - the commit delay is what is tested
                connection.commit()
                with lock:
                    published.extend(made)

    def sweeper() -> None:
        with psycopg.connect(db_url, autocommit=True) as connection:
            while not running.is_set():
                connection.execute(
                    "SELECT tandem.fill_topic(id, 7) FROM tandem.topic_fill WHERE finished_at IS NULL"
                )

    threads = [threading.Thread(target=publisher, args=(plan,)) for plan in plans]
    filling = threading.Thread(target=sweeper)
    for thread in [*threads, filling]:
        thread.start()
    for number in range(5):
        new_group(db_url, f"g{number}", 0)
    for thread in threads:
        thread.join(60)
    running.set()
    filling.join(60)
    topics.fill_all(db_url)
    everything = dict.fromkeys(published, 1)
    for group in [GROUP, *(f"g{number}" for number in range(5))]:
        assert topics.deliveries(db_url, group) == everything, group


async def test_a_seek_that_breaks_off_has_dropped_nothing(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics.make_topic(db_url)
    topics.publish(db_url, 7)
    monkeypatch.setattr(service, "SKIP_BATCH", 3)
    waiting = "SELECT count(*) AS n FROM tandem.ready"

    async def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("killed here")

    async with await connect(db_url, name="test") as connection:
        group = await consuming.find_group(connection, TOPIC, GROUP)
        seek = partial(
            service.replay, connection, group, Where(at="beginning"), last=None, keep_waiting=False, actor="a"
        )
        with monkeypatch.context() as broken:
            broken.setattr(repository, "request_fill", fail)
            with pytest.raises(ConnectionError):
                await seek()
        assert topics.rows(db_url, waiting)[0].n == 7
        assert (await seek())["skipped"] == 7
        assert topics.rows(db_url, waiting)[0].n == 0
    topics.fill_all(db_url)
    assert topics.rows(db_url, waiting)[0].n == 7
