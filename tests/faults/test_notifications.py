"""Notifications are hints: a full queue of them fails nobody's commit, forged ones only cost a look (F37, F39)."""

import contextlib

import psycopg
import pytest

from app.database import migrate
from app.queue.job import NewJob
from app.queue.kinds import Kind, Registry
from app.queue.running import Job
from app.queue.store import Store
from app.queue.wake import channel
from tests.conftest import MakeServer
from tests.support.jobs import enqueue_all, outcome
from tests.support.supervised import supervised
from tests.support.waiting import eventually_async


def registered() -> Registry:
    registry = Registry()

    async def nothing(_: Job[dict[str, object]]) -> None:
        pass

    registry.add(Kind("nothing", nothing))
    return registry


@pytest.mark.embedded  # the size of the queue can be set since PostgreSQL 17
async def test_f37_a_full_notification_queue_fails_no_enqueue(make_server: MakeServer) -> None:
    with make_server({"max_notify_queue_pages": "64"}) as (_, url):
        migrate.upgrade(url)
        with psycopg.connect(url) as stuck, psycopg.connect(url, autocommit=True) as loud:
            stuck.execute("LISTEN noise")
            stuck.commit()
            stuck.execute("SELECT 1")  # a listener inside a transaction: nothing behind it can be forgotten
            with contextlib.suppress(psycopg.OperationalError):
                for round_ in range(500):
                    loud.execute(
                        "SELECT count(pg_notify('noise', %s || n || repeat('x', 7000))) FROM generate_series(1, 5) n",
                        (f"{round_} ",),
                    )
            row = loud.execute("SELECT pg_notification_queue_usage()").fetchone()
            assert row is not None
            assert row[0] > 0.9
            async with supervised(url, registered()) as supervisor:
                sleeper = supervisor.producer.sleeper
                assert sleeper is not None
                await eventually_async(lambda: sleeper._asleep)
                [job] = enqueue_all(url, [NewJob("nothing")])
                await eventually_async(lambda: outcome(url, job) == "SUCCEEDED")
                stuck.rollback()


async def test_f39_forged_notifications_cost_looks_and_no_more(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = 0
    original = Store.claim_jobs

    async def counted(store: Store, *arguments: object, **options: object) -> object:
        nonlocal claims
        claims += 1
        return await original(store, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "claim_jobs", counted)
    async with supervised(db_url, registered()) as supervisor:
        sleeper = supervisor.producer.sleeper
        assert sleeper is not None
        places = await eventually_async(lambda: sleeper._places)
        before = claims
        with psycopg.connect(db_url, autocommit=True) as forger:
            for place in places:
                if place.seat is None:
                    query = "SELECT count(pg_notify(%s, n::text)) FROM generate_series(1, 20000) n"
                    forger.execute(query, (channel(place.key),))
                forger.execute("SELECT pg_notify('tandem_cancel', '')")
        [job] = enqueue_all(db_url, [NewJob("nothing")])
        await eventually_async(lambda: outcome(db_url, job) == "SUCCEEDED")
        assert claims - before < 200, "many notifications at once are one reason to look"
