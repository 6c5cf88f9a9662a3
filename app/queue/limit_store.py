"""The statements of sql/queries/limits that operators send: one method per file, same name. Decides nothing."""

from typing import Literal

from app.queue.dict_rows import DictRows, Row
from app.queue.store import statement

DeadHead = Literal["skip", "block"]


class LimitStore(DictRows):
    """Limits and managed queues on one connection."""

    async def list_limits(self) -> list[Row]:
        """Every limit, and what runs under it."""
        return await self._rows(statement("limits", "list_limits"), {})

    async def set_limit(
        self,
        target: str,
        *,
        max_running: int | None,
        weight: float | None,
        rate: float | None,
        burst: int | None,
        exempt: bool | None,
    ) -> None:
        """Set what is not None."""
        params = {"target": target, "max_running": max_running, "weight": weight, "rate": rate}
        await self._row(statement("limits", "set_limit"), {**params, "burst": burst, "exempt": exempt})

    async def clear_limit(self, target: str) -> bool:
        """Remove a limit; False where there was none."""
        row = await self._row(statement("limits", "clear_limit"), {"target": target})
        return bool(row and row["cleared"])

    async def resume_key(self, queue: str, key: str) -> bool:
        """Let a stopped key go on; False where it had not stopped."""
        row = await self._row(statement("limits", "resume_key"), {"queue": queue, "key": key})
        return bool(row and row["resumed"])

    async def manage_queue(
        self,
        queue: str,
        *,
        ordered: bool,
        dead_head: DeadHead,
        key_limit: int | None,
        key_rate: float | None,
        key_burst: int,
        rank_keys: bool,
    ) -> None:
        """Make a queue managed, with these settings."""
        params = {"queue": queue, "ordered": ordered, "dead_head": dead_head, "key_limit": key_limit}
        settings = {"key_rate": key_rate, "key_burst": key_burst, "rank_keys": rank_keys}
        await self._row(statement("limits", "manage_queue"), {**params, **settings})

    async def release_queue(self, queue: str) -> bool:
        """Make it a plain queue again; False where it was not managed."""
        return await self._row(statement("limits", "release_queue"), {"queue": queue}) is not None
