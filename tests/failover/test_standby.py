"""A standby takes no writes: nothing is told to have worked there, and nobody makes noise (F30)."""

from pathlib import Path

import psycopg
import pytest

from app.queue.job import NewJob
from scripts.chaos_rig.pair import Pair
from tests.support.conversations import END, body, counts, make_settings, serving
from tests.support.jobs import enqueue_all, outcome
from tests.support.ledger import make_ledger
from tests.support.waiting import eventually, eventually_async
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos


async def test_f30_a_worker_on_a_standby_waits_quietly_and_works_once_it_is_promoted(
    pair: Pair, tmp_path: Path
) -> None:
    make_ledger(pair.primary_url)
    [job] = enqueue_all(pair.primary_url, [NewJob("succeed")])
    pair.wait_for(synchronous=False)
    with worker_process(pair.standby_url, tmp_path, lease_seconds=2.0) as worker:
        eventually(
            lambda: worker.log.count("read-only") >= 3 or worker.process.poll() is not None, timeout=30
        )
        assert worker.process.poll() is None, worker.log
        async with serving(pair.standby_url, make_settings(api={"request_seconds": 2.0})) as client:
            answer = await client.post(END, json=body())
            assert answer.status_code == 503, answer.text
            assert (await client.get("/health/ready")).status_code == 503
            assert counts(pair.primary_url) == (0, 1)
            lines = len(worker.log.splitlines())
            pair.primary.stop(mode="immediate")
            pair.promote()
            assert (await client.post(END, json=body())).status_code == 202

            async def is_ready() -> bool:
                return (await client.get("/health/ready")).status_code == 200

            await eventually_async(is_ready)
        await eventually_async(lambda: outcome(pair.standby_url, job) == "SUCCEEDED", timeout=40)
        assert lines < 30, worker.log


async def test_a_worker_whose_server_turns_read_only_goes_on_when_it_takes_writes_again(
    db_url: str, tmp_path: Path
) -> None:
    make_ledger(db_url)
    name = db_url.split("?")[0].rsplit("/", 1)[1]

    def read_only(value: str) -> None:
        with psycopg.connect(
            db_url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as connection:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    with worker_process(db_url, tmp_path, lease_seconds=2.0) as worker:
        worker.started()
        [first] = enqueue_all(db_url, [NewJob("succeed")])
        await eventually_async(lambda: outcome(db_url, first) == "SUCCEEDED")
        read_only("on")
        eventually(lambda: "read-only" in worker.log, timeout=30)
        read_only("off")
        [second] = enqueue_all(db_url, [NewJob("succeed")])
        await eventually_async(lambda: outcome(db_url, second) == "SUCCEEDED", timeout=40)
        assert worker.process.poll() is None
        assert len(worker.log.splitlines()) < 400
