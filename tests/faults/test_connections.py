"""Connections that are not to be had, or lead nowhere any more: F13, F17, F18."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from app.config import CHECKOUT
from app.database import migrate
from tests.conftest import MakeServer
from tests.support.conversations import END, body, counts, make_settings, serving
from tests.support.jobs import enqueue_all, outcomes, status
from tests.support.ledger import effects, go, held, make_ledger, step
from tests.support.waiting import eventually
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.chaos
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
    with make_server({"max_connections": "30", "superuser_reserved_connections": "0"}) as (_, url):
        migrate.upgrade(url)
        make_ledger(url)
        jobs = enqueue_all(url, [step("exactly", tmp_path, "before") for _ in range(3)])
        with worker_process(url, tmp_path, lease_seconds=1.5, slots=4):
            eventually(lambda: held(tmp_path) == 3, timeout=60)
            outsiders: list[psycopg.Connection[object]] = []
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                while len(outsiders) < 40:
                    outsiders.append(psycopg.connect(url))
            quick = make_settings(api={"request_seconds": 2.0})
            async with serving(url, quick) as client:
                answer = await client.post(END, json=body())
                assert answer.status_code == 503, answer.text
                go(tmp_path)
                for one in [outsiders.pop() for _ in range(4)]:  # the API may take some of what is free
                    one.close()
                # What holds leases and writes ends has its connections already.
                eventually(lambda: outcomes_seen(outsiders[0], jobs) == {"SUCCEEDED"}, timeout=60)
                for one in outsiders:
                    one.close()
                assert (await client.post(END, json=body())).status_code == 202
        assert counts(url)[0] == 1
        assert [len(effects(url, job)) for job in jobs] == [1, 1, 1]


def outcomes_seen(connection: "psycopg.Connection[object]", jobs: list[int]) -> set[object]:
    query = "SELECT status FROM tandem.job_status WHERE job_id = ANY (%s)"
    found: list[tuple[object, ...]] = connection.execute(query, (jobs,)).fetchall()  # type: ignore[assignment]
    connection.rollback()
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
