"""The statements of sql/queries/priority: one method per file, same name. Decides nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import tuple_row

from app.queue.dict_rows import DictRows, Row
from app.queue.store import statement


class WaitingJob(NamedTuple):
    """A job that waits, as a formula sees it.

    `base` is the priority that it was enqueued with, `priority` the one that it has now. `waited` are the seconds since
    it was ready for its next try, 0 before.
    """

    job_id: int
    queue: str
    kind: str
    partition_key: str | None
    priority: int
    base: int
    attempt: int
    waited: float
    created_at: datetime
    event_id: UUID | None


class PriorityStore(DictRows):
    """Priorities of waiting jobs on one connection."""

    async def find_waiting(
        self, queues: Sequence[str], *, after: int, most: int
    ) -> tuple[int, int | None, list[WaitingJob]]:
        """Of the next waiting jobs: how many were looked at, the last one, those of `queues`."""
        cursor = self.connection.cursor(binary=True, row_factory=tuple_row)
        params = {"queues": list(queues), "after": after, "most": most}
        await cursor.execute(statement("priority", "find_waiting"), params, prepare=True)
        rows = await cursor.fetchall()
        return rows[0][0], rows[0][1], [WaitingJob(*row[2:]) for row in rows if row[2] is not None]

    async def change_priorities(
        self, jobs: Sequence[int], priorities: Sequence[int]
    ) -> tuple[int, list[int]]:
        """Move waiting jobs to their new bands; answers how many, and the lanes to wake."""
        params = {"job_ids": list(jobs), "priorities": list(priorities)}
        row = (await self._rows(statement("priority", "change_priorities"), params))[0]
        return row["moved"], row["lanes"]

    async def read_ageing(self) -> list[Row]:
        """What operators set: queue, after (seconds), step, most."""
        return await self._rows(statement("priority", "read_ageing"), {})

    async def age_queue(self, queue: str, *, after: float | None, step: int | None, most: int | None) -> Row:
        """Set or forget the ageing of a queue."""
        params = {"queue": queue, "after": after, "step": step, "most": most}
        return (await self._rows(statement("priority", "age_queue"), params))[0]
