"""The statements of sql/queries/expiry: one method per file, same name. Decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from app.queue.dict_rows import DictRows, Row
from app.queue.store import statement


class ExpiryStore(DictRows):
    """Start deadlines on one connection."""

    async def find_overdue(self, *, after: datetime, hooked_kinds: Sequence[str], most: int) -> list[Row]:
        """(job_id, start_by) of deadlines that have passed."""
        params = {"after": after, "hooked_kinds": list(hooked_kinds), "most": most}
        return await self._rows(statement("expiry", "find_overdue"), params)

    async def earliest_deadline(self, *, after: datetime) -> datetime | None:
        """The earliest one after `after`."""
        at: datetime | None = (await self._rows(statement("expiry", "earliest_deadline"), {"after": after}))[
            0
        ]["at"]
        return at

    async def find_stale(
        self, *, after: int, kinds: Mapping[str, float], most: int
    ) -> tuple[int, int | None, list[int]]:
        """Of the next waiting jobs: how many were looked at, the last one, those past their kind's time."""
        params = {"after": after, "kinds": list(kinds), "seconds": list(kinds.values()), "most": most}
        row = (await self._rows(statement("expiry", "find_stale"), params))[0]
        return row["looked"], row["last"], row["stale"]

    async def expire_jobs(
        self, jobs: Sequence[int], *, deadlines: Sequence[datetime | None], reason: str
    ) -> list[Row]:
        """End those that wait for their first try; answers what their hooks need."""
        params = {"job_ids": list(jobs), "deadlines": list(deadlines), "reason": reason}
        return await self._rows(statement("expiry", "expire_jobs"), params)
