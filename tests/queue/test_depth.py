"""A deep queue costs a call no more than a shallow one: index access alone, and as many pages whatever waits.

`TANDEM_TEST_DEPTH=10000000 pytest tests/queue/test_depth.py` asks the same of ten million jobs (about 10 GB of disk).
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from app.database.deadline import BoundedAsyncConnection
from app.queue.claim import END
from app.queue.store import Store, statement
from scripts.measure_depth import measure, problems
from tests.support.claims import WORKER, worker_connection

DEPTH = int(os.environ.get("TANDEM_TEST_DEPTH", "40000"))
SHALLOW = 2_000
PRELOAD = """
    WITH written AS (
        INSERT INTO tandem.job (id, created_at, priority, queue, kind, payload)
        SELECT nextval('tandem.job_id'), now(), n %% 10, 'q' || n %% 7, 'test', '{}' FROM generate_series(1, %s) AS n
        RETURNING id, created_at, priority, queue)
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue)
    SELECT nextval('tandem.ready_position'), id, created_at, priority, 0, 0, false, queue FROM written"""
LANES = [(f"q{queue}", priority) for queue in range(7) for priority in range(9, -1, -1)]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explain(connection: BoundedAsyncConnection, area: str, name: str, params: Any) -> dict[str, Any]:
    """The plan of a statement of ours, which really runs."""
    query = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement(area, name)
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return dict(plan[0]["Plan"])


async def claim_plan(connection: BoundedAsyncConnection) -> dict[str, Any]:
    params = {
        "queues": [queue for queue, _ in LANES],
        "priorities": [priority for _, priority in LANES],
        "floors": [0] * len(LANES),
        "ceilings": [END] * len(LANES),
        "want": 200,
        "token": 1,
        "worker": WORKER,
        "lease": timedelta(seconds=30),
    }
    return await explain(connection, "claim", "claim_jobs", params)


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.parametrize("analysed", [True, False], ids=["with statistics", "without statistics"])
async def test_a_claim_reads_by_index_alone_and_as_much_whatever_waits(db_url: str, analysed: bool) -> None:
    async with await worker_connection(db_url) as connection:
        readings = []
        for jobs in (SHALLOW, DEPTH - SHALLOW):
            await connection.execute(PRELOAD, (jobs,))
            if analysed:
                await connection.execute("ANALYZE tandem.ready, tandem.job, tandem.lease")
            plan = await claim_plan(connection)
            assert plan["Actual Rows"] == 200
            scans = [node for node in nodes(plan) if node.get("Relation Name") in {"ready", "job_0", "lease"}]
            assert {node["Node Type"] for node in scans} <= {"Index Scan", "Tid Scan", "ModifyTable"}, scans
            assert all(node.get("Rows Removed by Filter", 0) == 0 for node in scans)
            readings.append(pages(plan))
        # Each index may have grown by two levels, which each of the 200 jobs pays in four of them.
        assert readings[1] <= readings[0] + 200 * 4 * 2, readings


async def test_a_look_at_empty_lanes_costs_a_probe_each(db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await Store(connection).declare_queues(["elsewhere"])
        await connection.execute(PRELOAD, (SHALLOW,))
        await connection.execute("UPDATE tandem.ready SET queue = 'elsewhere'")
        await connection.execute("VACUUM ANALYZE tandem.ready")
        plan = await claim_plan(connection)
        assert plan["Actual Rows"] == 0
        assert pages(plan) <= len(LANES) * 4 + 20


def test_claims_promotions_rescues_and_admissions_touch_as_many_pages_whatever_waits(db_url: str) -> None:
    readings = measure(db_url, [SHALLOW, DEPTH])
    assert {one.call for one in readings} == {"claim", "promote", "rescue", "admission"}
    assert problems(readings) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DROP INDEX tandem.lease_expires", "rescue"),
        ("ALTER TABLE tandem.scheduled DROP CONSTRAINT scheduled_pkey", "promote"),
    ],
)
def test_a_missing_index_is_noticed(db_url: str, damage: str, found: str) -> None:
    with psycopg.connect(db_url) as connection:
        connection.execute(damage.encode())
    wrong = problems(measure(db_url, [SHALLOW, 5 * SHALLOW]))
    assert wrong
    assert {text.split()[0] for text in wrong} == {found}


@pytest.mark.parametrize("session", ["a worker's", "a plain one"])
async def test_a_rescue_looks_leases_up_one_by_one_whatever_the_statistics_say(
    db_url: str, session: str
) -> None:
    """Taken while a large table held no lease, they made each batch read all of them."""
    fill = (
        "WITH taken AS (SELECT coalesce(max(job_id), 0) AS last FROM tandem.lease)"
        " INSERT INTO tandem.lease (job_id, token, expires_at, worker, claimed_at, priority, attempt, crashes,"
        " suspect, alone, queue)"
        " SELECT last + n, n, now() - interval '1 minute', gen_random_uuid(), now(), 5, 1, 0, false, false, 'default'"
        " FROM taken CROSS JOIN generate_series(1, 20000) AS n"
    )
    opened = worker_connection(db_url) if session == "a worker's" else BoundedAsyncConnection.connect(db_url)
    async with await opened as connection:
        await connection.execute("ALTER TABLE tandem.lease SET (autovacuum_enabled = false)")
        await connection.execute(fill.encode())
        await connection.execute("DELETE FROM tandem.lease")
        await connection.execute("ANALYZE tandem.lease")
        await connection.execute(fill.encode())
        wanted = list(range(1, 201))
        plan = await explain(connection, "lease", "rescue_jobs", {"job_ids": wanted, "tokens": wanted})
        scans = [one for one in nodes(plan) if one.get("Relation Name") == "lease"]
        assert (
            sum(one["Actual Rows"] * one["Actual Loops"] for one in scans if "Scan" in one["Node Type"])
            <= 400
        )
        assert all(one.get("Rows Removed by Filter", 0) == 0 for one in scans), scans
