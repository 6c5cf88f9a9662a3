"""Cron schedules as operators and sweepers use them: list, write, pause, run, and fire the ticks that have come.

Only the database's clock counts. A tick makes its job in the transaction that moves the schedule on, and has one row
for ever, so that it fires once, however many sweepers run and whatever the clock does.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import AsyncConnection

from app.errors import Conflict, InvalidInput, NotFound
from app.queue.admin_store import AdminStore
from app.queue.cron import Missed, Schedule, latest_tick, missed_ticks, next_tick, ticks
from app.queue.dict_rows import Row
from app.queue.schedule_store import ScheduleStore

__all__ = [
    "COMING_LIMIT",
    "Missed",
    "Schedule",
    "coming_ticks",
    "declare_schedules",
    "fire_schedules",
    "list_schedules",
    "pause_schedule",
    "put_schedule",
    "read_schedule",
    "remove_schedule",
    "resume_schedule",
    "run_schedule",
]

Connection = AsyncConnection[Any]
TICKS_AT_ONCE = 100
"""How many missed ticks one transaction makes up for."""
COMING_LIMIT = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fired:
    """What one look at the clock did: ticks that made a job, and schedules that could not fire."""

    ticks: int
    failed: int


# --- operators -----------------------------------------------------------------------------------------------


async def list_schedules(connection: Connection) -> list[Row]:
    """Every schedule with its next and last tick, and the job of the last one."""
    return await ScheduleStore(connection).list_schedules()


async def read_schedule(connection: Connection, name: str) -> Row:
    """One schedule. Raises NotFound."""
    found = await ScheduleStore(connection).list_schedules(name)
    if not found:
        raise _unknown(name)
    return found[0]


async def put_schedule(
    connection: Connection, schedule: Schedule, *, source: Literal["code", "operator"] = "operator"
) -> Row:
    """Write a schedule, over one of the same name; its ticks begin now. Raises Conflict for one declared in code."""
    now = await AdminStore(connection).read_clock()
    store, following = ScheduleStore(connection), next_tick(schedule.cron, schedule.timezone, now)
    await store.put_schedule(schedule, source=source, next_tick_at=following)
    found = await read_schedule(connection, schedule.name)
    if source == "operator" and found["source"] == "code":
        raise Conflict(
            "declared-in-code",
            f"schedule {schedule.name!r} is declared in code: change it there, or pause it and add another one",
        )
    return found


async def declare_schedules(connection: Connection, schedules: Iterable[Schedule]) -> None:
    """Publish the schedules that a process has in its code; what operators paused stays paused."""
    for schedule in schedules:
        await put_schedule(connection, schedule, source="code")


async def pause_schedule(connection: Connection, name: str, *, by: str | None = None) -> Row:
    """Let no tick fire until it is resumed; those that pass meanwhile never fire. Raises NotFound."""
    if not await ScheduleStore(connection).pause_schedule(name, by=by):
        raise _unknown(name)
    return await read_schedule(connection, name)


async def resume_schedule(connection: Connection, name: str) -> Row:
    """Fire again from the next tick on, counted from now. Raises NotFound.

    Also for a schedule that is not paused: after the clock was far in the future by mistake.
    """
    found = await read_schedule(connection, name)
    now = await AdminStore(connection).read_clock()
    following = next_tick(found["cron"], found["timezone"], now)
    if not await ScheduleStore(connection).resume_schedule(name, next_tick_at=following):
        raise _unknown(name)
    return await read_schedule(connection, name)


async def remove_schedule(connection: Connection, name: str) -> None:
    """Forget a schedule; one declared in code comes back with the next process that has it. Raises NotFound."""
    if not await ScheduleStore(connection).remove_schedule(name):
        raise _unknown(name)


async def run_schedule(connection: Connection, name: str) -> int:
    """Make one of its jobs now, also while it is paused; its ticks stay as they are. Raises NotFound."""
    job_id = await ScheduleStore(connection).run_schedule(name)
    if job_id is None:
        raise _unknown(name)
    return job_id


async def coming_ticks(connection: Connection, name: str, *, count: int = 5) -> list[datetime]:
    """The next ticks of a schedule, in UTC. Raises NotFound, InvalidInput."""
    if not 1 <= count <= COMING_LIMIT:
        raise InvalidInput("invalid-limit", f"from 1 to {COMING_LIMIT} ticks, not {count}")
    found = await read_schedule(connection, name)
    now = await AdminStore(connection).read_clock()
    coming = ticks(found["cron"], found["timezone"], now)
    return [tick for tick, _ in zip(coming, range(count), strict=False)]


# --- sweepers ------------------------------------------------------------------------------------------------


async def fire_schedules(connection: Connection) -> Fired:
    """Make the jobs of every tick that has come; a schedule that cannot fire is reported and stepped over."""
    fired, broken, store = 0, set[str](), ScheduleStore(connection)
    while due := [row for row in await store.find_due_schedules() if row["name"] not in broken]:
        for row in due:
            try:
                async with connection.transaction():
                    fired += len(await _fire(store, row))
            except Exception as error:
                if connection.closed:
                    raise
                broken.add(row["name"])
                _log.error("schedule %s cannot fire: %s", row["name"], error)
    return Fired(fired, len(broken))


async def _fire(store: ScheduleStore, row: Row) -> list[Row]:
    cron, timezone, first, now = row["cron"], row["timezone"], row["next_tick_at"], row["at"]
    if row["missed"] == "coalesce":
        passed = [latest_tick(cron, timezone, first, now)]
    else:
        passed = missed_ticks(cron, timezone, first, now, most=TICKS_AT_ONCE) or [first]
    following = next_tick(cron, timezone, passed[-1])
    return await store.fire_schedule(row["name"], expected=first, ticks=passed, following=following)


def _unknown(name: str) -> NotFound:
    return NotFound("unknown-schedule", f"there is no schedule {name!r}")
