"""The statements of sql/queries/limits that workers and sweepers send: claims from managed queues, and their upkeep.

What operators do to limits is in limits.py. Decides nothing.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from app.queue.job import ClaimedJob, claimed_jobs
from app.queue.store import Finish, Store, finishes


class Admitted(NamedTuple):
    """What an admission brought: jobs, the ids it finished before, and the seconds until a parked key is due."""

    jobs: list[ClaimedJob]
    finished: set[int]
    due: float | None


class AdmissionStore(Store):
    """The statements of managed queues on one connection, beside the others."""

    async def admit_jobs(
        self,
        queue: str,
        *,
        want: int,
        token: int,
        worker: UUID,
        lease: timedelta,
        thorough: bool = False,
        finished: Sequence[Finish] = (),
    ) -> Admitted:
        """Finish jobs, then claim up to `want` of a managed queue under all its limits."""
        params = {
            **finishes(finished),
            "queue": queue,
            "want": want,
            "token": token,
            "worker": worker,
            "lease": lease,
            "thorough": thorough,
        }
        whole, *rows = await self._all("limits", "admit_jobs", params)
        return Admitted(claimed_jobs(token, (row[2:] for row in rows)), set(whole[0] or ()), whole[1])

    async def find_misplaced(self) -> list[str]:
        """Queues in which jobs wait where they do not belong."""
        return [row[0] for row in await self._all("limits", "find_misplaced", {})]

    async def move_waiting(self, queue: str, *, most: int) -> int:
        """Move waiting jobs to where they belong; answers how many."""
        return int((await self._all("limits", "move_waiting", {"queue": queue, "most": most}))[0][0])

    async def remind(self, *, after: tuple[str, str], most: int) -> tuple[tuple[str, str], int, int]:
        """Touch keys that are not in line: (the last (queue, key) looked at, how many were, how many touched)."""
        rows = await self._all("limits", "remind", {"queue": after[0], "key": after[1], "most": most})
        return ((rows[0][0], rows[0][1]), rows[0][2], rows[0][3]) if rows else (("", ""), 0, 0)

    async def find_managed(self, queues: Sequence[str]) -> set[str]:
        """Which of these queues are managed."""
        return {row[0] for row in await self._all("limits", "find_managed", {"queues": list(queues)})}
