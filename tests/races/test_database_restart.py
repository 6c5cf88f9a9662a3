"""The server is stopped at once in the middle of the work and started again, several times: nothing is lost.

A server of the test's own, with durability as in production but for the disk: processes die, the machine does not.
"""

import signal
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.database import migrate
from app.queue.enqueue import enqueue
from tests.conftest import MakeServer
from tests.support.jobs import enqueue_all, outcomes
from tests.support.ledger import effects, go, held, make_ledger, step
from tests.support.membership import check_membership
from tests.support.servers import CARELESS
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos
OPTIONS: dict[str, Any] = {"lease_seconds": 2.0, "slots": 5, "sweeper": {"leader_lease_seconds": 2.0}}
RESTARTS = 3


class Application(threading.Thread):
    """Enqueues without a pause; what was acknowledged stands in `accepted`, what may or may not be there does not."""

    def __init__(self, url: str, place: Path) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.place = place
        self.accepted: dict[int, str] = {}
        self.unknown = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(0.005):
            try:
                with psycopg.connect(self.url) as connection:
                    self._use(connection)
            except psycopg.OperationalError:
                self.unknown += 1

    def _use(self, connection: psycopg.Connection[Any]) -> None:
        while not self.stopping.wait(0.002):
            kind = ("exactly", "at-least")[len(self.accepted) % 2]
            job = enqueue(connection, step(kind, self.place)).job_id
            connection.commit()
            self.accepted[job] = kind


def test_a_database_that_is_restarted_under_load_loses_nothing_and_repeats_no_transaction(
    make_server: MakeServer, tmp_path: Path
) -> None:
    with make_server({**CARELESS, "wal_writer_delay": "200ms"}) as (cluster, url):
        migrate.upgrade(url)
        make_ledger(url)
        application = Application(url, tmp_path)
        with worker_process(url, tmp_path, **OPTIONS) as one, worker_process(url, tmp_path, **OPTIONS) as two:
            one.started()
            two.started()
            application.start()
            for _ in range(RESTARTS):
                enough = len(application.accepted) + 150
                eventually(lambda: len(application.accepted) >= enough, timeout=60)  # noqa: B023 - awaited here
                cluster.stop(mode="immediate")
                assert cluster.url(cluster.start()) == url
            application.stopping.set()
            application.join(60)
            jobs = sorted(application.accepted)
            eventually(lambda: set(outcomes(url, jobs)) == {"SUCCEEDED"}, timeout=90)
            assert (one.process.poll(), two.process.poll()) == (None, None)
        assert application.unknown >= RESTARTS, "the application noticed nothing: the test shows nothing"
        counted = {job: len(effects(url, job)) for job in jobs}
        assert {counted[job] for job in jobs if application.accepted[job] == "exactly"} == {1}
        assert min(counted.values()) >= 1
        check_membership(url)


def test_a_worker_ends_when_it_is_told_to_although_the_database_is_away(
    make_server: MakeServer, tmp_path: Path
) -> None:
    with make_server(CARELESS) as (cluster, url):
        migrate.upgrade(url)
        make_ledger(url)
        with worker_process(url, tmp_path, drain_seconds=1.0, **OPTIONS) as worker:
            worker.started()
            jobs = enqueue_all(url, [step("wait", tmp_path, "wait") for _ in range(3)])
            eventually(lambda: held(tmp_path) == 3, timeout=60)
            cluster.stop(mode="immediate")
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0, worker.log
        cluster.start()
        go(tmp_path)
        with worker_process(url, tmp_path, **OPTIONS):
            eventually(lambda: set(outcomes(url, jobs)) == {"SUCCEEDED"}, timeout=60)
        check_membership(url)
