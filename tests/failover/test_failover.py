"""Failover for real: a standby is promoted under load; what was acknowledged is there, and counts once (F31-F36).

The long form: `scripts/test -- tests/failover --load-seconds 300`.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from app.database.connect import connect, connect_sync
from app.database.primary import OldTimelineError, Timelines
from app.errors import Unavailable
from app.queue.enqueue import enqueue
from app.queue.job import NewJob, Unique
from app.queue.store import Finish, Store
from scripts.chaos_rig.pair import Pair
from tests.support.claims import claim, worker_connection
from tests.support.conversations import END, body, counts, end, event, make_settings, serving
from tests.support.jobs import outcomes, unfinished
from tests.support.ledger import make_ledger, step
from tests.support.membership import check_membership
from tests.support.waiting import eventually, eventually_async
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos
KINDS = ("exactly", "exactly-thread", "at-least")
QUICK = {
    "lease_seconds": 2.0,
    "slots": 8,
    "database": {"call_timeout_seconds": 3.0, "connect_timeout_seconds": 2},
}


class Client:
    """Enqueues without pause, one connection for each call, and notes outside the database what was acknowledged."""

    def __init__(self, url: str, place: Path, number: int) -> None:
        self.url = url
        self.place = place
        self.number = number
        self.acknowledged: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.calm = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        op = 0
        while not self.calm.is_set():
            op += 1
            self._call(f"client {self.number} op {op}", KINDS[op % len(KINDS)])

    def _call(self, key: str, kind: str) -> None:
        """Repeat the call until its outcome is known: one key, one job."""
        while not self.calm.is_set():
            try:
                with connect_sync(self.url, name="client", call_timeout=3.0) as connection:
                    with connection.transaction():
                        job = step(kind, self.place)
                        made = enqueue(connection, NewJob(job.kind, job.payload, unique=Unique(key)))
                    self.acknowledged[key] = made.job_id
                    self.unknown.discard(key)
                    return
            except (psycopg.OperationalError, Unavailable):
                self.unknown.add(key)


@contextmanager
def clients(url: str, place: Path, count: int = 3) -> Iterator[list[Client]]:
    """Clients that call until the block ends."""
    running = [Client(url, place, number) for number in range(count)]
    for client in running:
        client.thread.start()
    try:
        yield running
    finally:
        end_calls(running)


def end_calls(running: list[Client]) -> None:
    """Start no call any more, and wait for those under way."""
    for client in running:
        client.calm.set()
    for client in running:
        client.thread.join(60)
        assert not client.thread.is_alive(), "a call is bounded by its time-out"


def test_a_promoted_synchronous_standby_has_everything_and_nothing_counts_twice(
    pair: Pair, tmp_path: Path, load_seconds: float
) -> None:
    make_ledger(pair.primary_url)
    pair.wait_for(synchronous=True)
    with (
        worker_process(pair.url, tmp_path, **QUICK) as one,
        worker_process(pair.url, tmp_path, **QUICK) as two,
        clients(pair.url, tmp_path) as running,
    ):
        one.started()
        two.started()
        time.sleep(load_seconds)  # layout: sleep-in-test - the load itself takes this time
        pair.primary.stop(mode="immediate")
        before = sum(len(client.acknowledged) for client in running)
        pair.promote()
        eventually(lambda: sum(len(one.acknowledged) for one in running) >= before + 20, timeout=60)
        time.sleep(load_seconds)  # layout: sleep-in-test - the load itself takes this time
        end_calls(running)  # a call that is still under way may add one more job
        eventually(lambda: unfinished(pair.standby_url) == 0, timeout=60)
        assert (one.process.poll(), two.process.poll()) == (None, None), "workers reconnect, they do not end"
    assert before > 0
    acknowledged = {key: job for client in running for key, job in client.acknowledged.items()}
    assert set(outcomes(pair.standby_url, list(acknowledged.values()))) == {"SUCCEEDED"}
    check_membership(pair.standby_url)
    with psycopg.connect(pair.standby_url) as connection:
        twice = connection.execute(
            "SELECT e.job FROM effect AS e JOIN tandem.job AS j ON j.id = e.job WHERE j.kind <> 'at-least'"
            " GROUP BY e.job HAVING count(*) > 1"
        ).fetchall()
        without = connection.execute(
            "SELECT j.id FROM tandem.job AS j WHERE NOT EXISTS (SELECT FROM effect AS e WHERE e.job = j.id)"
        ).fetchall()
    assert (twice, without) == ([], [])


async def test_leases_that_the_standby_never_saw_are_void_and_the_old_primary_is_refused(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asynchronous: what was committed last is lost, and what old workers still hold of it writes nothing."""
    with psycopg.connect(pair.primary_url) as connection:
        kept = [enqueue(connection, NewJob("test", {"n": n})).job_id for n in range(10)]
    pair.wait_for(synchronous=False)
    pair.stop_standby()
    with psycopg.connect(pair.primary_url) as connection:
        lost = [enqueue(connection, NewJob("test", {"lost": n})).job_id for n in range(50)]
    async with await worker_connection(pair.primary_url) as old:
        held = await claim(old, want=60)
        assert {job.id for job in held} == {*kept, *lost}
        done = held[:3]
        assert len(await Store(old).finish_jobs([Finish(job.id, job.token, 1.0) for job in done])) == 3
    pair.primary.stop(mode="immediate")
    pair.start_standby()
    pair.promote()

    assert set(outcomes(pair.standby_url, kept)) == {"PENDING"}, (
        "claims and ends of the lost window never were"
    )
    with psycopg.connect(pair.standby_url) as connection:
        again = [enqueue(connection, NewJob("test", {"again": n})).job_id for n in range(60)]
    assert set(again) & set(lost), "ids are given out again: what keeps the old tries away is the token"
    async with await connect(pair.url, name="test") as new:
        assert await Store(new).finish_jobs([Finish(job.id, job.token, 1.0) for job in held]) == set()
        pairs = [(job.id, job.token) for job in held]
        assert await Store(new).extend_leases(pairs, lease=timedelta(seconds=9)) == {}
        assert await Store(new).fence_lease(held[0].id, held[0].token) is None
        assert await Store(new).find_finished(pairs) == set()
    check_membership(pair.standby_url)

    # The old primary comes back and takes writes. This process has met the new one, so it does not go there.
    pair.primary.start()
    with pytest.raises(OldTimelineError, match="stop the old primary"):
        await connect(pair.primary_url, name="test")
    with connect_sync(pair.url, name="test") as connection:  # listed first, and yet not taken
        where = connection.execute("SELECT current_setting('cluster_name')").fetchone()
    assert where == ("standby",)

    # The negative control: a process without that memory writes to whom it finds first.
    monkeypatch.setattr("app.database.primary.timelines", Timelines())
    with connect_sync(pair.url, name="test") as connection:
        where = connection.execute("SELECT current_setting('cluster_name')").fetchone()
    assert where == ("primary",)


async def test_a_standby_that_is_gone_makes_the_outcome_unknown_and_loses_nothing(pair: Pair) -> None:
    """F35: COMMIT waits for the standby; nobody says it worked, nobody cancels it, and repeating it is safe."""
    pair.wait_for(synchronous=True)
    quick = make_settings(api={"request_seconds": 1.0}, database={"call_timeout_seconds": 2.0})
    async with serving(pair.primary_url, quick) as client:
        await end(client, "before")
        pair.stop_standby()
        for _ in range(
            2
        ):  # the repetition meets the first one's lock, or its own wait: no success either way
            answer = await client.post(END, json=body("waits"))
            assert answer.status_code == 503, answer.text
        assert (await client.get("/v1/conversations/waits")).status_code == 404, (
            "not committed for anybody yet"
        )
        pair.release()
        await eventually_async(lambda: event(pair.primary_url, "waits") is not None, timeout=20)
        assert (await client.post(END, json=body("waits"))).status_code == 202
    assert counts(pair.primary_url) == (2, 2)
