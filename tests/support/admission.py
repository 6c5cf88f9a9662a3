"""Managed queues as tests drive them: one step of a worker at a time, without a worker."""

import secrets
from collections.abc import Sequence
from typing import Any

import psycopg

from app.queue.admission_store import AdmissionStore
from app.queue.job import ClaimedJob
from app.queue.store import Finish
from tests.support.claims import LEASE, WORKER, rows


async def manage(connection: psycopg.AsyncConnection[Any], queue: str = "default", **options: Any) -> None:
    """Make the queue managed."""
    names = "".join(f", {name} => %({name})s" for name in options)
    query = f"SELECT tandem.manage_queue(%(queue)s{names})".encode()
    await connection.execute(query, {"queue": queue, **options})


async def limit(connection: psycopg.AsyncConnection[Any], target: str, **options: Any) -> None:
    """Set a limit."""
    names = "".join(f", {name} => %({name})s" for name in options)
    await connection.execute(
        f"SELECT tandem.set_limit(%(target)s{names})".encode(), {"target": target, **options}
    )


async def admit(
    connection: psycopg.AsyncConnection[Any], want: int = 100, queue: str = "default", **options: Any
) -> list[ClaimedJob]:
    """Claim from a managed queue, as a worker does."""
    options = {"lease": LEASE, "worker": WORKER, "thorough": True, **options}
    return (
        await AdmissionStore(connection).admit_jobs(queue, want=want, token=secrets.randbits(63), **options)
    ).jobs


async def finish(
    connection: psycopg.AsyncConnection[Any], jobs: Sequence[ClaimedJob], ran_ms: float = 10.0
) -> None:
    """Finish them, as job.transaction() would."""
    await AdmissionStore(connection).finish_jobs([Finish(job.id, job.token, ran_ms) for job in jobs])


def keys(jobs: Sequence[ClaimedJob]) -> dict[str, int]:
    """How many jobs of each key."""
    found: dict[str, int] = {}
    for job in jobs:
        found[job.partition_key or ""] = found.get(job.partition_key or "", 0) + 1
    return dict(sorted(found.items()))


async def waiting(connection: psycopg.AsyncConnection[Any]) -> int:
    """How many jobs wait for admission."""
    return int((await rows(connection, "SELECT count(*) FROM tandem.blocked"))[0][0])
