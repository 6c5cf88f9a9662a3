"""Pages that one claim, promotion, rescue and admission touch, by how many jobs wait: counts, the same on any machine.

Usage: python -m scripts.measure_depth [--depths 10000,1000000] [--server URL] [--json]; figures stand in
docs/performance.md. Exit code 1: a call touches more than its indexes' growth explains, or reads a table as a whole.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import timedelta
from time import monotonic
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import psycopg

from app.queue.claim import END
from app.queue.store import PINNED_PLANS, statement
from scripts.throwaway import throwaway_server
from workers.sweeper.rescue import LAST_JOB
from workers.sweeper.step import BEGINNING

WORKER = UUID("00000000-0000-4000-8000-000000000001")
LEASE = timedelta(seconds=30)
QUEUES, KEYS, WANT = 7, 1000, 200
GROWTH = 2.0
"""An index over a thousand times the rows has up to two levels more; each row moved is looked up in five to seven."""
EMPTY = "TRUNCATE tandem.job, tandem.turn, tandem.admission"
NOWHERE = "TRUNCATE tandem.ready, tandem.scheduled, tandem.lease, tandem.blocked, tandem.touch"
JOBS = """
    INSERT INTO tandem.job (id, created_at, priority, queue, kind, partition_key, payload)
    SELECT nextval('tandem.job_id'), now(), n %% 10, 'q' || n %% %(queues)s, 'test', 'k' || n %% %(keys)s, '{}'
    FROM generate_series(1, %(jobs)s) AS n"""
# The same jobs wait in one place after the other: to be claimed, for their time, for their end, for a limit.
READY = """
    INSERT INTO tandem.ready (pos, job_id, ready_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT nextval('tandem.ready_position'), id, created_at, priority, 0, 0, false, queue, partition_key
    FROM tandem.job"""
SCHEDULED = """
    INSERT INTO tandem.scheduled (next_attempt_at, job_id, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT now() + (hashint8(id) / 1e6::float8) * interval '1 s', id, priority, 1, 0, false, queue, partition_key
    FROM tandem.job"""
RUNNING = """
    INSERT INTO tandem.lease
        (job_id, token, worker, claimed_at, expires_at, priority, attempt, crashes, suspect, queue, partition_key)
    SELECT id, 1, %(worker)s, now(), now() + (hashint8(id) / 1e6::float8) * interval '1 s', priority, 1, 0, false,
           queue, partition_key
    FROM tandem.job"""
BLOCKED = """
    INSERT INTO tandem.blocked
        (queue, partition_key, band, pos, job_id, blocked_at, priority, attempt, crashes, suspect, waiting_for)
    SELECT 'q0', partition_key, priority, id, id, created_at, priority, 0, 0, false, 'limit' FROM tandem.job"""
TOUCHED = """
    INSERT INTO tandem.touch (queue, partition_key, band, first)
    SELECT 'q0', partition_key, priority, min(id) FROM tandem.job GROUP BY partition_key, priority"""
# To build an index once is several times faster than to keep it while rows come in an order that is not its own.
INDEXES = """
    SELECT CASE WHEN c.oid IS NULL THEN format('DROP INDEX %%s', i.indexrelid::regclass)
                ELSE format('ALTER TABLE %%s DROP CONSTRAINT %%I', i.indrelid::regclass, c.conname) END,
           CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.indexrelid)
                ELSE format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', i.indrelid::regclass, c.conname,
                            pg_get_constraintdef(c.oid)) END
    FROM pg_index AS i LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid
    WHERE i.indrelid = %(table)s::regclass"""
SERVER = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "512MB",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "wal_level": "minimal",
}
"""For a fill: rows of a table emptied in the same transaction are not logged."""
SCANS = "SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE schemaname = 'tandem'"
BIG = re.compile(r"ready|lease|scheduled|blocked|touch|turn|job_\d+")
Connection = psycopg.Connection[Any]


class Reading(NamedTuple):
    """One call at one depth."""

    call: str
    waiting: int
    pages: int
    rows: int
    scans: str
    """Queue tables of which it read rows without an index, and how many."""
    nodes: str
    """The ways in which the statement's own plan reads tables."""


class Call(NamedTuple):
    """A statement of ours and where its jobs wait."""

    name: str
    table: LiteralString
    fill: LiteralString
    explain: Callable[[Connection], tuple[list[dict[str, Any]], int]]
    keep: bool = False
    """Whether the call is committed: admission remembers whose turn it is."""


def explained(connection: Connection, area: str, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The plan of a statement of ours, which really runs."""
    query = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement(area, name)
    row = connection.execute(query, params).fetchone()
    assert row is not None  # noqa: S101 - EXPLAIN always answers
    return dict((row[0] if isinstance(row[0], list) else json.loads(row[0]))[0]["Plan"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def moved(plan: dict[str, Any]) -> int:
    """How many rows its DELETE took away."""
    return next(int(node["Actual Rows"]) for node in nodes(plan) if node.get("Operation") == "Delete")


def claim(connection: Connection) -> tuple[list[dict[str, Any]], int]:
    """200 jobs from all lanes of all queues."""
    lanes = [(f"q{queue}", priority) for queue in range(QUEUES) for priority in range(9, -1, -1)]
    params = {
        "queues": [queue for queue, _ in lanes],
        "priorities": [priority for _, priority in lanes],
        "floors": [0] * len(lanes),
        "ceilings": [END] * len(lanes),
        "want": WANT,
        "token": 2,
        "worker": WORKER,
        "lease": LEASE,
    }
    plan = explained(connection, "claim", "claim_jobs", params)
    return [plan], moved(plan)


def promote(connection: Connection) -> tuple[list[dict[str, Any]], int]:
    """200 of those that are due, half of all."""
    plan = explained(connection, "schedule", "promote_jobs", {"after": BEGINNING, "most": WANT})
    return [plan], moved(plan)


def rescue(connection: Connection) -> tuple[list[dict[str, Any]], int]:
    """A page of 200 expired leases, half of all are: found, then taken back."""
    params: dict[str, Any] = {"after": BEGINNING, "after_job": LAST_JOB, "most": WANT, "hooked_kinds": []}
    found = explained(connection, "lease", "find_expired", params)
    expired = connection.execute(statement("lease", "find_expired"), params).fetchall()
    pairs = {"job_ids": [row[0] for row in expired], "tokens": [row[1] for row in expired]}
    taken = explained(connection, "lease", "rescue_jobs", pairs)
    return [found, taken], moved(taken)


def admit(connection: Connection) -> tuple[list[dict[str, Any]], int]:
    """200 jobs of a managed queue, from a thousand keys, thoroughly."""
    finishes = {"job_ids": "{}", "tokens": "{}", "ran_ms": "{}", "results": None, "ttls": None}
    who = {"queue": "q0", "worker": WORKER, "token": 3, "lease": LEASE}
    plan = explained(connection, "limits", "admit_jobs", {**finishes, **who, "want": WANT, "thorough": True})
    return [plan], int(plan["Actual Rows"]) - 1  # its first row is about the whole


CALLS = (
    Call("claim", "tandem.ready", READY, claim),
    Call("promote", "tandem.scheduled", SCHEDULED, promote),
    Call("rescue", "tandem.lease", RUNNING, rescue),
    Call("admission", "tandem.blocked", BLOCKED, admit, keep=True),
)


def measure(url: str, depths: Sequence[int], say: Callable[[str], None] = lambda _: None) -> list[Reading]:
    """Fill the queue, look, and fill it anew. Everything in it is lost."""
    readings = list[Reading]()
    with (
        psycopg.connect(url, autocommit=True) as filler,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        for name, setting in PINNED_PLANS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, setting))
        connection.execute("SELECT tandem.manage_queue('q0')")
        for depth in depths:
            started = monotonic()
            with filler.transaction():
                filler.execute(EMPTY)
                filler.execute(NOWHERE)
                filler.execute(JOBS, {"jobs": depth, "queues": QUEUES, "keys": KEYS})
            say(f"{depth:,} jobs made after {monotonic() - started:.0f} s")
            for call in CALLS:
                fill(filler, call)
                say(f"{call.name}: filled after {monotonic() - started:.0f} s")
                readings.append(look(connection, call, depth))
                took = monotonic() - started
                say(f"{call.name}: {readings[-1].pages:,} pages, {readings[-1].nodes}, after {took:.0f} s")
    return readings


def fill(connection: Connection, call: Call) -> None:
    """Let all jobs wait where this call looks."""
    with connection.transaction():
        connection.execute(NOWHERE)
        connection.execute("UPDATE tandem.queue SET managed = %s WHERE name = 'q0'", (call.keep,))
        indexes = connection.execute(INDEXES, {"table": call.table}).fetchall()
        for drop, _ in indexes:
            connection.execute(drop.encode())
        connection.execute(call.fill, {"worker": WORKER})
        if call.keep:
            connection.execute(TOUCHED)
        for _, build in indexes:
            connection.execute(build.encode())
    connection.execute("ANALYZE tandem.job, tandem.ready, tandem.scheduled, tandem.lease, tandem.blocked")


def look(connection: Connection, call: Call, depth: int) -> Reading:
    """Warm up, and count the pages of one call."""
    # What stands inside a function is planned at its first run, and the first admissions hear of a thousand keys.
    for _ in range(8):
        with connection.transaction(force_rollback=not call.keep):
            call.explain(connection)
    with connection.transaction(force_rollback=not call.keep):
        before = dict(connection.execute(SCANS).fetchall())
        plans, rows = call.explain(connection)
        after = dict(connection.execute(SCANS).fetchall())
    pages = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)
    used = {
        node["Node Type"] for plan in plans for node in nodes(plan)
        if BIG.fullmatch(node.get("Relation Name", "")) and node["Node Type"] != "ModifyTable"
    }  # fmt: skip
    grown = {name: read - before.get(name, 0) for name, read in after.items() if BIG.fullmatch(name)}
    scans = ", ".join(f"{name} {read}" for name, read in grown.items() if read)
    return Reading(call.name, depth, pages, rows, scans, ", ".join(sorted(used)))


def problems(readings: Sequence[Reading]) -> list[str]:
    """More pages than GROWTH times those of the first depth, a table read whole, a call that did too little."""
    found = [
        f"{one.call} at {one.waiting:,} reads tables as a whole: {one.scans}" for one in readings if one.scans
    ]
    found += [
        f"{one.call} at {one.waiting:,} moved {one.rows} of {WANT}" for one in readings if one.rows != WANT
    ]
    first = {one.call: one for one in reversed(readings)}
    for one in readings:
        if one.pages > GROWTH * first[one.call].pages:
            found.append(
                f"{one.call} touches {one.pages} pages at {one.waiting:,}, {first[one.call].pages} before"
            )
    return found


def main() -> int:
    """Print a table and what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m scripts.measure_depth", description=__doc__)
    parser.add_argument(
        "--depths", default="10000,1000000", help="ascending, with commas (default 10000,1000000)"
    )
    parser.add_argument(
        "--server", help="the address of an empty migrated database; otherwise one made for the run"
    )
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given = parser.parse_args()
    depths = [int(text) for text in given.depths.split(",")]
    with nullcontext(given.server) if given.server else throwaway_server(SERVER) as url:
        readings = measure(url, depths, lambda text: print(text, file=sys.stderr, flush=True))
    wrong = problems(readings)
    print(
        f"| {WANT} jobs each, pages touched | " + " | ".join(f"{depth:,} waiting" for depth in depths) + " |"
    )
    print("|---|" + "---|" * len(depths))
    for call in CALLS:
        counts = [f"{one.pages:,}" for one in readings if one.call == call.name]
        print(f"| {call.name} | " + " | ".join(counts) + " |")
    print("\n".join(wrong) or "index access alone, and as constant as promised")
    if given.json:
        print(json.dumps({"readings": [one._asdict() for one in readings], "problems": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
