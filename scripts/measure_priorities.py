"""What one walk of the priorities step costs: statements, buffers, WAL, CPU and seconds, on a scratch database.

Usage: python -m scripts.measure_priorities [--jobs 100000] [--batch 1000] [--server URL]
Figures stand in docs/priority.md.
"""

import argparse
import asyncio
from collections.abc import Sequence
from time import perf_counter, process_time
from typing import Any

import psutil
import psycopg

from app.client import Job, enqueue_copy
from app.database.connect import connect
from app.queue.priority import Rule, WaitingJob, recalculate
from workers.testing import fresh_database

COUNTERS = b"""SELECT (SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()),
                      pg_current_wal_insert_lsn() - '0/0'"""


def nobody(jobs: Sequence[WaitingJob]) -> list[int]:
    """Nothing changes."""
    return [job.priority for job in jobs]


def one_in_a_hundred(jobs: Sequence[WaitingJob]) -> list[int]:
    """Some go up."""
    return [8 if job.job_id % 100 == 0 else job.priority for job in jobs]


def everybody(jobs: Sequence[WaitingJob]) -> list[int]:
    """Every job goes to another band."""
    return [9 - job.priority for job in jobs]


def counters(url: str) -> tuple[int, int]:
    """Buffers touched in this database so far, and WAL bytes."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(COUNTERS).fetchone()
    assert row is not None  # noqa: S101 - one row always
    return int(row[0]), int(row[1])


async def walk(url: str, function: Any, batch: int) -> dict[str, float]:
    """One walk on a connection of its own."""
    buffers, wal = counters(url)
    async with await connect(url, name="measure") as connection:
        server = psutil.Process(connection.info.backend_pid)
        before, client, began = server.cpu_times(), process_time(), perf_counter()
        moved, statements = 0, 0
        after: int | None = 0
        while after is not None:
            rule = Rule("default", function, batch=batch)
            page = await recalculate(connection, {"default": rule}, after=after, most=batch)
            moved, statements, after = moved + page.moved, statements + 1 + bool(page.moved), page.after
        seconds, client_cpu, now = perf_counter() - began, process_time() - client, server.cpu_times()
    used = counters(url)
    return {
        "moved": moved,
        "statements": statements,
        "buffers": used[0] - buffers,
        "wal_mb": (used[1] - wal) / 1e6,
        "server_cpu": now.user + now.system - before.user - before.system,
        "client_cpu": client_cpu,
        "seconds": seconds,
    }


def main() -> None:
    """Print one line per walk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--server", help="a PostgreSQL address; the embedded server otherwise")
    given = parser.parse_args()
    with fresh_database(given.server) as url:
        with psycopg.connect(url) as connection:
            enqueue_copy(connection, [Job("measure", {"n": n}) for n in range(given.jobs)])
            connection.commit()
            connection.autocommit = True
            connection.execute("VACUUM (ANALYZE)")
        print(f"{given.jobs} waiting jobs, {given.batch} in one transaction")
        for name, function in (
            ("none changes", nobody),
            ("1 % change", one_in_a_hundred),
            ("all change", everybody),
        ):
            found = asyncio.run(walk(url, function, given.batch))
            print(f"{name:13}", "  ".join(f"{key} {value:,.2f}" for key, value in found.items()))


if __name__ == "__main__":
    main()
