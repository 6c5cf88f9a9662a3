"""Connections that are not to be had, or lead nowhere any more: F13, F17, F18."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from app.config import CHECKOUT
from app.database import migrate
from tests.conftest import MakeServer
from tests.support.conversations import END, body, counts, make_settings, serving
from tests.support.jobs import enqueue_all, outcomes, status
from tests.support.ledger import effects, go, held, make_ledger, step
from tests.support.waiting import eventually, eventually_async
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos
FULL = 30
"""As many connections as the server has."""
IN_NAMESPACE = """
import asyncio, json, subprocess, sys, time
from app.database.connect import CONNECTION_LOST, connect
from app.database.listener import Listener
from tests.support.proxy import Proxy

async def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Proxy(sys.argv[1]) as proxy:
        asking = await connect(proxy.url, name="asks")
        listening = Listener(await connect(proxy.url, name="listens"), lambda channel: None)
        async with listening.talking():
            await listening.listen(["anything"])
        rules = "table inet cut { chain out { type filter hook output priority 0; tcp flags & rst != rst drop; }; }"
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        started = time.monotonic()
        try:
            await asking.execute("SELECT 1")
            asked = None
        except CONNECTION_LOST:
            asked = time.monotonic() - started
        async with asyncio.timeout(60):
            await listening.failed.wait()
        print(json.dumps({"asked": asked, "listened": time.monotonic() - started}), flush=True)
        import os
        os._exit(0)

asyncio.run(main())
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"),
    reason="a network that swallows packets needs root, ip and nft (Debian: apt-get install nftables iproute2)",
)
def test_f13_a_network_that_swallows_packets_is_noticed_in_seconds(db_url: str) -> None:
    """Half open: no RST, nothing comes back. The limit of calls (15 s) is not what ends them."""
    name = f"tandem-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        pytest.skip("no network namespaces here")
    try:
        result = subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-c", IN_NAMESPACE, db_url],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=90,
        )
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    assert result.stdout, result.stderr
    took = json.loads(result.stdout)
    assert took["asked"] is not None
    assert max(took.values()) < 14, took


async def test_f17_a_full_server_delays_work_and_loses_none(make_server: MakeServer, tmp_path: Path) -> None:
    settings = {"max_connections": str(FULL), "superuser_reserved_connections": "0"}
    with make_server(settings) as (_, url), ExitStack() as outsiders:
        migrate.upgrade(url)
        make_ledger(url)
        with worker_process(url, tmp_path, lease_seconds=1.5, slots=4):
            # What holds leases, runs transactions and writes ends has its connections from here on.
            [first] = enqueue_all(url, [step("exactly", tmp_path)])
            eventually(lambda: outcomes(url, [first]) == ["SUCCEEDED"], timeout=60)
            jobs = enqueue_all(url, [step("exactly", tmp_path, "before") for _ in range(3)])
            eventually(lambda: held(tmp_path) == 3, timeout=60)
            crowd = fill(url, outsiders)
            quick = make_settings(api={"request_seconds": 2.0})
            async with serving(url, quick) as client:
                answer = await client.post(END, json=body())
                assert answer.status_code == 503, answer.text
                go(tmp_path)
                for one in crowd[1:5]:  # the API and the sweeper may take all that is free
                    one.close()
                eventually(lambda: outcomes_seen(crowd[0], jobs) == {"SUCCEEDED"}, timeout=60)
                outsiders.close()

                async def is_taken() -> bool:
                    return (await client.post(END, json=body())).status_code == 202

                await eventually_async(is_taken, timeout=60)
        assert counts(url)[0] == 1
        assert [len(effects(url, job)) for job in jobs] == [1, 1, 1]


def fill(url: str, outsiders: ExitStack) -> list["psycopg.Connection[object]"]:
    """Take every connection that is to be had, also those of backends that are about to end."""
    crowd: list[psycopg.Connection[object]] = []
    count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"

    def full() -> bool:
        try:
            crowd.append(outsiders.enter_context(psycopg.connect(url, autocommit=True)))
        except psycopg.OperationalError as error:
            assert "too many clients" in str(error), error
            return crowd[0].execute(count).fetchone() == (FULL,)
        return False

    eventually(full, timeout=60)
    assert len(crowd) > 5
    return crowd


def outcomes_seen(connection: "psycopg.Connection[object]", jobs: list[int]) -> set[object]:
    query = "SELECT status FROM tandem.job_status WHERE job_id = ANY (%s)"
    found: list[tuple[object, ...]] = connection.execute(query, (jobs,)).fetchall()  # type: ignore[assignment]
    return {row[0] for row in found}


def test_f18_an_exhausted_pool_costs_time_and_no_lease(db_url: str, tmp_path: Path) -> None:
    make_ledger(db_url)
    jobs = enqueue_all(db_url, [step("exactly", tmp_path, "inside")])
    jobs += enqueue_all(db_url, [step("exactly", tmp_path) for _ in range(4)])
    with worker_process(
        db_url, tmp_path, lease_seconds=1.0, slots=5, database={"pool_size": 1, "pool_wait_seconds": 60.0}
    ):
        eventually(lambda: held(tmp_path) == 1, timeout=60)
        # Longer than the lease: the database's clock says so.
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute("SELECT pg_sleep(2.5)")
        go(tmp_path)
        eventually(lambda: set(outcomes(db_url, jobs)) == {"SUCCEEDED"}, timeout=60)
    assert [(status(db_url, job).attempt, len(effects(db_url, job))) for job in jobs] == [(1, 1)] * 5
