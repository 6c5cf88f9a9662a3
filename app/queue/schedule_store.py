"""The statements of sql/queries/cron: one method per file, same name. Decides nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.client.encoding import encode_json
from app.queue.cron import Schedule
from app.queue.dict_rows import DictRows, Row
from app.queue.job import PAYLOAD_LIMIT_BYTES
from app.queue.store import statement


class ScheduleStore(DictRows):
    """The schedules on one connection."""

    async def list_schedules(self, name: str | None = None) -> list[Row]:
        """All of them, or the one of that name."""
        return await self._rows(statement("cron", "list_schedules"), {"name": name})

    async def find_due_schedules(self) -> list[Row]:
        """Those whose next tick has come, with the clock."""
        return await self._rows(statement("cron", "find_due_schedules"), {})

    async def fire_schedule(
        self, name: str, *, expected: datetime, ticks: Sequence[datetime], following: datetime
    ) -> list[Row]:
        """Make the jobs of these ticks, if nobody else has; answers (tick, job_id) of those made."""
        params = {"name": name, "expected": expected, "ticks": list(ticks), "next": following}
        return await self._rows(statement("cron", "fire_schedule"), params)

    async def put_schedule(self, schedule: Schedule, *, source: str, next_tick_at: datetime) -> bool:
        """Write it; False when it was there just so, or may not be replaced."""
        params = {
            "name": schedule.name,
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "kind": schedule.kind,
            "queue": schedule.queue,
            "payload": encode_json(schedule.payload, limit=PAYLOAD_LIMIT_BYTES, what="payload"),
            "priority": schedule.priority,
            "partition_key": schedule.partition_key,
            "missed": schedule.missed,
            "overlap": schedule.overlap,
            "source": source,
            "next_tick_at": next_tick_at,
        }
        return await self._row(statement("cron", "put_schedule"), params) is not None

    async def pause_schedule(self, name: str, *, by: str | None) -> bool:
        """Let no tick fire; False when there is none of that name."""
        return await self._row(statement("cron", "pause_schedule"), {"name": name, "by": by}) is not None

    async def resume_schedule(self, name: str, *, next_tick_at: datetime) -> bool:
        """Let ticks fire from then on; False when there is none of that name."""
        params = {"name": name, "next_tick_at": next_tick_at}
        return await self._row(statement("cron", "resume_schedule"), params) is not None

    async def remove_schedule(self, name: str) -> bool:
        """Forget it; False when there is none of that name."""
        return await self._row(statement("cron", "remove_schedule"), {"name": name}) is not None

    async def run_schedule(self, name: str) -> int | None:
        """Make a job now; answers its id, None when there is no such schedule."""
        row = await self._row(statement("cron", "run_schedule"), {"name": name})
        return None if row is None else int(row["job_id"])

    async def forget_ticks(self, *, retention: timedelta) -> int:
        """Forget old ticks; answers how many."""
        cursor = self.connection.cursor()
        await cursor.execute(statement("cron", "forget_ticks"), {"retention": retention}, prepare=False)
        return cursor.rowcount
