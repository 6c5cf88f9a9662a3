"""When a job will start and end: tandem.eta and tandem.queue_eta as Python sees them, and the samples they rest on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from app.errors import Conflict
from app.queue.admin import read_job
from app.queue.dict_rows import DictRows, Row
from app.queue.store import statement


class Sample(NamedTuple):
    """Tries that ended: how many, the sum of their milliseconds, and the sum of the squares."""

    tries: int
    ran_ms: float
    squares: float

    def plus(self, ran_ms: float) -> "Sample":
        """With one more."""
        return Sample(self.tries + 1, self.ran_ms + ran_ms, self.squares + ran_ms * ran_ms)


class EtaStore(DictRows):
    """The statements of sql/queries/eta."""

    async def add_samples(self, samples: Mapping[tuple[str, str], Sample]) -> None:
        """Append samples by (queue, kind)."""
        params = {
            "queues": [queue for queue, _ in samples],
            "kinds": [kind for _, kind in samples],
            "tries": [sample.tries for sample in samples.values()],
            "ran_ms": [sample.ran_ms for sample in samples.values()],
            "squares": [sample.squares for sample in samples.values()],
        }
        await self.connection.execute(statement("eta", "add_samples"), params, prepare=False)

    async def forget_samples(self) -> int:
        """Forget what is old; answers how many."""
        return (await self.connection.execute(statement("eta", "forget_samples"))).rowcount

    async def read_eta(self, job_id: int) -> Row | None:
        """The expectation for one job; None when it has ended or there is none."""
        return await self._row(statement("eta", "read_eta"), {"job_id": job_id})

    async def read_queue_eta(self, queue: str) -> Row:
        """The expectation for a queue, whether anybody knows it or not."""
        return (await self._rows(statement("eta", "read_queue_eta"), {"queue": queue}))[0]


async def job_eta(connection: AsyncConnection[Any], job_id: int) -> Row:
    """When a job is expected to start and end, with 80 % bands, and how many come before it.

    The times are None where nothing can be said; `basis` says why. Raises NotFound, or Conflict when it has ended.
    """
    found = await EtaStore(connection).read_eta(job_id) if 0 < job_id < 2**63 else None
    if found is None:
        job = await read_job(connection, job_id)
        raise Conflict(
            "already-ended",
            f"job {job_id} has ended: it is {job['status']}",
            detail={"status": job["status"]},
        )
    return {"job_id": job_id, **found}


async def queue_eta(connection: AsyncConnection[Any], queue: str) -> Row:
    """When what waits in a queue now will have been started, with an 80 % band."""
    return {"queue": queue, **await EtaStore(connection).read_queue_eta(queue)}
