"""The statements of sql/queries/admin: what operators read and do, one method per file, same name.

Apart from store.py because its rules differ: rows come as dicts, and nothing is prepared, so that each call is
planned for the filters it was given. Decides nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.queue.dict_rows import DictRows, Row
from app.queue.store import statement

__all__ = ["AdminStore", "Row"]


class AdminStore(DictRows):
    """The operators' statements on one connection."""

    # --- read ----------------------------------------------------------------------------------------------

    async def read_job(self, job_id: int) -> Row | None:
        """One job with its payload, result and cancel request."""
        return await self._row(statement("admin", "read_job"), {"job_id": job_id})

    async def list_attempts(self, job_id: int) -> list[Row]:
        """The failed tries of one job, the first one first."""
        return await self._rows(statement("admin", "list_attempts"), {"job_id": job_id})

    async def explain_job(self, job_id: int) -> list[Row]:
        """Why a job does not run, what matters most first."""
        return await self._rows(statement("admin", "explain_job"), {"job_id": job_id})

    async def list_jobs(
        self, *, status: str | None, kind: str | None, queue: str | None, before: int, most: int
    ) -> list[Row]:
        """Jobs below the id `before`, newest first."""
        params = {"status": status, "kind": kind, "queue": queue, "before": before, "most": most}
        return await self._rows(statement("admin", "list_jobs"), params)

    async def list_queues(self) -> list[Row]:
        """Every queue that is declared or holds jobs."""
        return await self._rows(statement("admin", "list_queues"), {})

    async def list_dead_letters(
        self,
        *,
        queue: str | None,
        kind: str | None,
        fingerprint: str | None,
        before: tuple[datetime, int],
        most: int,
    ) -> list[Row]:
        """Dead letters, the latest first, that come after (died_at, job_id) in that order."""
        params = {"queue": queue, "kind": kind, "fingerprint": fingerprint, "most": most}
        page = {"died_before": before[0], "job_before": before[1]}
        return await self._rows(statement("admin", "list_dead_letters"), params | page)

    async def count_dead_letters(
        self,
        *,
        queue: str | None,
        kind: str | None,
        fingerprint: str | None,
        job_ids: Sequence[int] | None,
        until: datetime,
    ) -> int:
        """How many dead letters fit."""
        params = _dead(queue, kind, fingerprint, job_ids, until)
        return int((await self._rows(statement("admin", "count_dead_letters"), params))[0]["jobs"])

    async def group_dead_letters(self, *, queue: str | None, kind: str | None, most: int) -> list[Row]:
        """Groups of one fingerprint and error class, the largest first."""
        params = {"queue": queue, "kind": kind, "most": most}
        return await self._rows(statement("admin", "group_dead_letters"), params)

    async def check_membership(self, *, most: int) -> list[Row]:
        """Jobs that do not stand in exactly one place."""
        return await self._rows(statement("admin", "check_membership"), {"most": most})

    async def read_clock(self) -> datetime:
        """The queue's clock."""
        at: datetime = (await self._rows(statement("admin", "read_clock"), {}))[0]["at"]
        return at

    # --- do ------------------------------------------------------------------------------------------------

    async def find_dead_jobs(
        self,
        *,
        queue: str | None,
        kind: str | None,
        fingerprint: str | None,
        until: datetime,
        after: tuple[datetime, int],
        hooked_kinds: Sequence[str],
        most: int,
    ) -> list[Row]:
        """(job_id, died_at) of dead letters in (after, until], the oldest first."""
        params = {"queue": queue, "kind": kind, "fingerprint": fingerprint, "most": most}
        page = {"died_until": until, "died_after": after[0], "job_after": after[1]}
        return await self._rows(
            statement("admin", "find_dead_jobs"), {**params, **page, "hooked_kinds": list(hooked_kinds)}
        )

    async def redrive_jobs(
        self, deaths: Sequence[tuple[int, datetime | None]], *, hooked_kinds: Sequence[str]
    ) -> list[Row]:
        """Make dead letters ready again; with a time of death, only if that is still how the job stands."""
        params = {"job_ids": [job for job, _ in deaths], "died_ats": [died for _, died in deaths]}
        return await self._rows(
            statement("admin", "redrive_jobs"), {**params, "hooked_kinds": list(hooked_kinds)}
        )

    async def purge_dead_jobs(
        self,
        *,
        queue: str | None,
        kind: str | None,
        fingerprint: str | None,
        job_ids: Sequence[int] | None,
        until: datetime,
        after: tuple[datetime, int],
        most: int,
    ) -> list[Row]:
        """Delete dead letters in (after, until], the oldest first; answers what they were."""
        params = _dead(queue, kind, fingerprint, job_ids, until)
        page = {"died_after": after[0], "job_after": after[1], "most": most}
        return await self._rows(statement("admin", "purge_dead_jobs"), params | page)

    async def request_cancel(self, job_id: int, *, by: str | None, reason: str | None) -> Row | None:
        """Note the request; answers how the job stands, None when there is no such job."""
        params = {"job_id": job_id, "requested_by": by, "reason": reason}
        return await self._row(statement("admin", "request_cancel"), params)

    async def cancel_waiting(self, job_ids: Sequence[int], *, hooked_kinds: Sequence[str]) -> list[Row]:
        """End those of the jobs that wait and whose cancel was asked for."""
        params = {"job_ids": list(job_ids), "hooked_kinds": list(hooked_kinds)}
        return await self._rows(statement("admin", "cancel_waiting"), params)

    async def find_unmet_cancels(self, *, after: int, hooked_kinds: Sequence[str], most: int) -> list[int]:
        """Jobs behind `after` with a cancel request that do not run."""
        params = {"after": after, "hooked_kinds": list(hooked_kinds), "most": most}
        rows = await self._rows(statement("admin", "find_unmet_cancels"), params)
        return [row["job_id"] for row in rows]

    async def forget_cancels(self, job_ids: Sequence[int]) -> int:
        """Remove the cancel requests of jobs that have ended; answers how many."""
        cursor = self.connection.cursor()
        await cursor.execute(statement("admin", "forget_cancels"), {"job_ids": list(job_ids)}, prepare=False)
        return cursor.rowcount

    async def note_deliveries(self, action: str, rows: Sequence[Row]) -> None:
        """Note for the audit log of topics what is done with deliveries, in the transaction that does it."""
        columns = ("queue", "job_id", "position", "asked_by", "reason")
        queues, jobs, places, actors, reasons = ([row[name] for row in rows] for name in columns)
        params = {"queues": queues, "job_ids": jobs, "places": places, "actors": actors, "reasons": reasons}
        query = statement("admin", "note_deliveries")
        await self.connection.execute(query, params | {"action": action}, prepare=False)

    async def pause_queue(self, queue: str, *, by: str | None) -> Row | None:
        """Stop claims from a queue; None when nobody knows it."""
        return await self._row(statement("admin", "pause_queue"), {"queue": queue, "paused_by": by})

    async def resume_queue(self, queue: str) -> Row | None:
        """Let a queue be claimed from; None when nobody declared it."""
        return await self._row(statement("admin", "resume_queue"), {"queue": queue})


def _dead(
    queue: str | None,
    kind: str | None,
    fingerprint: str | None,
    job_ids: Sequence[int] | None,
    until: datetime,
) -> dict[str, Any]:
    ids = None if job_ids is None else list(job_ids)
    return {"queue": queue, "kind": kind, "fingerprint": fingerprint, "job_ids": ids, "died_until": until}
