"""Wrong clocks: a worker's own does not matter, the database's moves leases but never safety (F43 to F45)."""

import asyncio
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from app.database import embedded, migrate
from app.database.account import as_account, give
from app.database.cluster import Cluster
from app.queue.job import NewJob
from app.queue.kinds import Registry
from app.queue.store import Finish, Store
from tests.support import servers
from tests.support.claims import add, claim, worker_connection
from tests.support.databases import address, drop
from tests.support.jobs import enqueue_all, outcome, outcomes, status, unfinished
from tests.support.ledger import effects, go, held, make_ledger, step
from tests.support.membership import check_membership
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process
from workers.sweeper.rescue import RescueJobs
from workers.sweeper.step import Settled

pytestmark = pytest.mark.chaos
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
needs_faketime = pytest.mark.skipif(
    FAKETIME is None, reason="no libfaketime (Debian: apt-get install faketime)"
)


@needs_faketime
@pytest.mark.parametrize("shift", ["+1h", "-1h"])
def test_f44_a_worker_an_hour_off_claims_nothing_early_and_loses_no_lease(
    db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: str
) -> None:
    make_ledger(db_url)
    soon = datetime.now(UTC) + timedelta(minutes=30)
    [later] = enqueue_all(db_url, [NewJob("succeed", run_at=soon)])
    [running] = enqueue_all(db_url, [step("exactly", tmp_path, "before")])
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    monkeypatch.setenv("FAKETIME", shift)
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    with worker_process(db_url, tmp_path, lease_seconds=1.0) as worker:
        monkeypatch.delenv("LD_PRELOAD")
        eventually(lambda: held(tmp_path) == 1, timeout=60)
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute("SELECT pg_sleep(2.2)")
        assert worker.process.poll() is None
        assert status(db_url, running).crashes == 0
        go(tmp_path)
        eventually(lambda: outcome(db_url, running) == "SUCCEEDED", timeout=60)
    assert (outcome(db_url, later), len(effects(db_url, running))) == ("PENDING", 1)
    shifted = datetime.now(UTC) + (timedelta(hours=1) if shift == "+1h" else -timedelta(hours=1))
    told = datetime.strptime(worker.log[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(told - shifted) < timedelta(minutes=15), "its clock was off indeed"


@needs_faketime
@pytest.mark.embedded
async def test_f45_the_databases_clock_jumps_and_the_fence_holds() -> None:
    with servers.open_directory() as place:
        cluster = embedded.cluster_at(place / "pg", servers.CARELESS)
        cluster.start()
        cluster.stop()
        clock = place / "clock"
        clock.write_text("+0\n")
        give(clock, cluster.account)
        fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
        command: list[str | Path] = [
            cluster.binaries / "pg_ctl",
            "-D",
            cluster.data,
            "-l",
            cluster.log,
            "-w",
            "start",
        ]
        environment = {"PATH": os.environ["PATH"], **fake, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        await asyncio.to_thread(_start, command, cluster, {**environment, "DONT_FAKE_MONOTONIC": "1"})
        running = cluster.running()
        assert running is not None
        url = cluster.url(running)
        try:
            migrate.upgrade(url)
            async with await worker_connection(url) as connection:
                store, rescue = Store(connection), RescueJobs(Registry(), Settled())
                await add(connection, 4)
                early = await claim(connection, 2)
                assert (await rescue.run_once(connection)).rows == 0
                clock.write_text("+1h\n")  # forward: leases end early, and the old tries are fenced
                assert (await rescue.run_once(connection)).rows == 2
                late = await claim(connection, 4)
                assert len(late) == 4
                assert await store.finish_jobs([Finish(one.id, one.token, 1.0) for one in early]) == set()
                clock.write_text("+0\n")  # back: leases end an hour late, and no later
                rescue.reset()
                assert (await rescue.run_once(connection)).rows == 0
                assert len(await store.finish_jobs([Finish(one.id, one.token, 1.0) for one in late[:2]])) == 2
                clock.write_text("+2h\n")
                assert (await rescue.run_once(connection)).rows == 2
            check_membership(url)
        finally:
            cluster.stop(mode="immediate")


def _start(command: list[str | Path], cluster: Cluster, environment: dict[str, str]) -> None:
    account, nothing = as_account(cluster.account), subprocess.DEVNULL
    subprocess.run(
        command, **account, env=environment, cwd=cluster.base, check=True, stdin=nothing, stdout=nothing
    )


def test_f43_a_restored_dump_goes_on_where_it_was(db_url: str, tmp_path: Path) -> None:
    """What had ended is not run again, what had not is, and no id is given out twice."""
    make_ledger(db_url)
    done = enqueue_all(db_url, [NewJob("succeed") for _ in range(5)])
    with worker_process(db_url, tmp_path):
        eventually(lambda: set(outcomes(db_url, done)) == {"SUCCEEDED"}, timeout=60)
    waiting = enqueue_all(db_url, [step("exactly", tmp_path) for _ in range(5)])
    programs = embedded.embedded_programs()
    server, name = address(db_url, "postgres"), f"tandem_restored_{os.getpid()}"
    copy = address(db_url, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    try:
        dump = tmp_path / "dump"
        subprocess.run([programs / "pg_dump", "-Fc", "-f", dump, db_url], check=True)
        subprocess.run([programs / "pg_restore", "--no-owner", "-d", copy, dump], check=True)
        assert set(outcomes(copy, done)) == {"SUCCEEDED"}
        more = enqueue_all(copy, [NewJob("succeed")])
        assert not set(more) & {*done, *waiting}
        with worker_process(copy, tmp_path):
            eventually(lambda: unfinished(copy) == 0, timeout=60)
        assert [len(effects(copy, job)) for job in waiting] == [1] * 5
        check_membership(copy)
    finally:
        drop(server, name)
