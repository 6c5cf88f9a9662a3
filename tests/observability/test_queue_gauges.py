"""The database-wide gauges of the queue, read as a scrape reads them."""

from collections.abc import Iterator
from itertools import count
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from app.config import Settings
from app.database.connect import connect
from app.observability.gauges import DatabaseGauges
from app.queue.store import Store
from tests.support.admission import admit, manage
from tests.support.claims import add, claim, value
from tests.support.states import fill

TIMES: Final = count(0, 100)


@pytest.fixture
def registry(db_url: str) -> Iterator[CollectorRegistry]:
    """A registry whose gauges look anew at every scrape."""
    gauges, registry = DatabaseGauges(db_url, Settings(), clock=lambda: next(TIMES)), CollectorRegistry()
    registry.register(gauges)
    yield registry
    gauges.close()


def read(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(name, labels)
    assert found is not None, f"{name} {labels} is missing"
    return found


async def test_queues_are_told_by_where_their_jobs_stand(db_url: str, registry: CollectorRegistry) -> None:
    async with await connect(db_url, name="test") as connection:
        await Store(connection).declare_queues(["default", "mail"])
        await manage(connection, "slow")
        await add(connection, 4, queue="slow")
        await add(connection, 5)
        await add(connection, 2, queue="mail")
        await claim(connection, 2)
        await connection.execute("SELECT tandem.enqueue('test', run_at => now() + interval '1 hour')")
        await connection.execute("UPDATE tandem.queue SET paused_at = now() WHERE name = 'mail'")
        await connection.execute(
            "UPDATE tandem.ready SET ready_at = now() - interval '1 hour' WHERE queue = 'mail'"
        )
        for state, jobs in (("ready", 3), ("scheduled", 1), ("running", 2)):
            assert read(registry, "tandem_queue_jobs", queue="default", state=state) == jobs
        assert read(registry, "tandem_queue_jobs", queue="mail", state="ready") == 2
        assert read(registry, "tandem_queue_jobs", queue="slow", state="blocked") == 4
        assert read(registry, "tandem_queue_oldest_ready_seconds", queue="mail") >= 3600
        assert read(registry, "tandem_queue_oldest_ready_seconds", queue="default") < 3600
        assert read(registry, "tandem_queue_paused", queue="mail") == 1
        assert read(registry, "tandem_queue_paused", queue="default") == 0
        assert read(registry, "tandem_workers_wanted") == 1


async def test_the_oldest_wait_for_admission_shows(db_url: str, registry: CollectorRegistry) -> None:
    name = "tandem_queue_oldest_blocked_seconds"
    async with await connect(db_url, name="test") as connection:
        await Store(connection).declare_queues(["default"])
        await manage(connection, "slow", key_limit=1)
        await manage(connection, "strict", ordered=True)
        await add(connection, 1)
        await connection.execute("UPDATE tandem.ready SET ready_at = now() - interval '1 hour'")
        assert read(registry, name, queue="slow") == 0, "nothing waits there"
        for key in ("a", "b"):
            await add(connection, 2, queue="slow", partition_key=key)
        await add(connection, 1, queue="strict", partition_key="a")
        await connection.execute(
            "UPDATE tandem.blocked SET not_before = now() + interval '1 hour' WHERE queue = 'strict'"
        )
        assert read(registry, name, queue="slow") < 3600
        await connection.execute(
            "UPDATE tandem.blocked SET blocked_at = now() - interval '1 hour'"
            " WHERE job_id = (SELECT max(job_id) FROM tandem.blocked WHERE queue = 'slow')"
        )
        assert read(registry, name, queue="slow") >= 3600, "whichever key it is of"
        assert read(registry, name, queue="default") == 0, "its ready job has a gauge of its own"
        assert read(registry, name, queue="strict") == 0, "it is not due yet"
        assert len(await admit(connection, queue="slow")) == 2
        assert read(registry, name, queue="slow") >= 3600, "behind the first job of its key"


async def test_a_sweep_that_is_late_shows(db_url: str, registry: CollectorRegistry) -> None:
    async with await connect(db_url, name="test") as connection:
        await add(connection, 1)
        await claim(connection, 1)
        assert read(registry, "tandem_lease_overdue_seconds") == 0
        assert read(registry, "tandem_promote_overdue_seconds") == 0
        await connection.execute("UPDATE tandem.lease SET expires_at = now() - interval '2 minutes'")
        await connection.execute("SELECT tandem.enqueue('test', run_at => now() + interval '1 hour')")
        await connection.execute("UPDATE tandem.scheduled SET next_attempt_at = now() - interval '3 minutes'")
        assert read(registry, "tandem_lease_overdue_seconds") >= 120
        assert read(registry, "tandem_promote_overdue_seconds") >= 180


async def test_dead_letters_are_counted(db_url: str, registry: CollectorRegistry) -> None:
    await fill(db_url)
    async with await connect(db_url, name="test") as connection:
        kept = await value(connection, "SELECT count(*) FROM tandem.done WHERE outcome = 'DEAD'")
        assert kept > 0
        assert read(registry, "tandem_dead_letters") == kept
