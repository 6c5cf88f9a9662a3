"""What `tandem jobs tail` does: looks again and again, and prints what is different from the look before."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import typer

from app.cli.output import show
from app.queue import admin
from app.queue.admin import Connection

WATCHED = 200
"""Without ids: how many of the newest jobs are looked at."""
SHOWN_AT_FIRST = 10
ENDED = ("SUCCEEDED", "DEAD", "CANCELLED")
Row = dict[str, Any]


async def follow(
    connection: Connection,
    jobs: Sequence[int],
    *,
    kind: str | None,
    queue: str | None,
    every: float,
    as_json: bool,
) -> bool:
    """Print changes until the given jobs have ended; without any, for ever. Answers whether all succeeded."""
    seen: dict[int, tuple[Any, ...]] = {}
    first = True
    while True:
        rows = await _look(connection, jobs, kind=kind, queue=queue)
        changed = [row for row in rows if seen.get(row["job_id"]) != _state(row)]
        for row in changed[-SHOWN_AT_FIRST:] if first and not jobs else changed:
            typer.echo(_line(row, as_json=as_json))
        seen = {row["job_id"]: _state(row) for row in rows}
        first = False
        if jobs and all(row["status"] in ENDED for row in rows):
            return all(row["status"] == "SUCCEEDED" for row in rows)
        await asyncio.sleep(every)


async def _look(
    connection: Connection, jobs: Sequence[int], *, kind: str | None, queue: str | None
) -> list[Row]:
    """The jobs as they stand, by id. Raises NotFound for an id that nobody has."""
    if not jobs:
        return (await admin.list_jobs(connection, kind=kind, queue=queue, limit=WATCHED))[::-1]
    return [await admin.read_job(connection, job) for job in dict.fromkeys(jobs)]


def _state(row: Row) -> tuple[Any, ...]:
    return row["status"], row["waiting_for"], row["attempt"], row["worker"], row["next_attempt_at"]


def _line(row: Row, *, as_json: bool) -> str:
    moment: datetime | None = row["finished_at"] or row["started_at"] or row["next_attempt_at"]
    if as_json:
        names = ("job_id", "kind", "queue", "status", "waiting_for", "attempt", "error_class", "reason")
        told = {name: row[name] for name in names}
        return json.dumps(told | {"at": moment.isoformat() if moment else None})
    waits = f" for {row['waiting_for']}" if row["waiting_for"] not in (None, "nothing") else ""
    parts = [
        show(moment),
        f"{row['job_id']:>8}",
        f"{row['status'] + waits:<16}",
        f"try {row['attempt']}",
        f"{row['queue']}/{row['kind']}",
        show(": ".join(part for part in (row["error_class"], row["reason"]) if part), most=80),
    ]
    return "  ".join(parts).rstrip()
