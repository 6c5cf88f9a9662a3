"""The only file of the queue that executes SQL: one method per statement file in sql/queries, same name.

Decides nothing; a method sends its statement and answers plain values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, namedtuple_row, tuple_row

from app.client.statements import array_text
from app.database.prepared import fetch, fits, prepared
from app.queue.job import ClaimedJob, claimed_jobs

QUERIES = Path(__file__).resolve().parents[2] / "sql" / "queries"
Params = Mapping[str, Any]

PINNED_PLANS = {
    # With fresh statistics missing, the planner would read a young queue table from front to back, and keep doing so.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Session settings of connections that claim and finish."""


@cache
def statement(area: str, name: str) -> bytes:
    """The text of sql/queries/<area>/<name>.sql without its leading comment."""
    lines = (QUERIES / area / f"{name}.sql").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("--")).encode()


class Finish(NamedTuple):
    """A job that succeeded: its result as JSON text, and the seconds after which the result may be forgotten."""

    job_id: int
    token: int
    ran_ms: float
    result: str | None = None
    ttl: float | None = None


class Lane(NamedTuple):
    """One priority band of one queue, and the positions to look at: [floor, ceiling)."""

    queue: str
    priority: int
    floor: int
    ceiling: int


@dataclass(frozen=True, slots=True)
class Failed:
    """One failed try to write: what `retry_jobs` and `close_jobs` take."""

    job_id: int
    token: int
    ran_ms: float
    error_class: str
    message: str
    fingerprint: str | None = None
    traceback: str | None = None
    delay: float = 0.0
    crashes: int = 0
    outcome: str = "DEAD"


class Moved(NamedTuple):
    """A job that a statement moved, and when it is due next."""

    job_id: int
    attempt: int
    next_attempt_at: datetime | None


class Store:
    """The queue's statements on one connection."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def _all(self, area: str, name: str, params: Params) -> list[TupleRow]:
        cursor = self.connection.cursor(binary=True, row_factory=tuple_row)
        await cursor.execute(statement(area, name), params, prepare=True)
        return await cursor.fetchall()

    async def _again(self, area: str, name: str, params: Params) -> list[TupleRow]:
        """`_all` for what a worker sends all day: text values only, where the connection allows the shorter way."""
        if not fits(self.connection):
            return await self._all(area, name, params)
        return await fetch(self.connection, prepared(statement(area, name)), params)

    async def _named(self, area: str, name: str, params: Params) -> list[Any]:
        cursor = self.connection.cursor(binary=True, row_factory=namedtuple_row)
        await cursor.execute(statement(area, name), params, prepare=True)
        return await cursor.fetchall()

    async def _do(self, area: str, name: str, params: Params) -> int:
        cursor = self.connection.cursor()
        await cursor.execute(statement(area, name), params, prepare=True)
        return cursor.rowcount

    # --- claim ---------------------------------------------------------------------------------------------

    async def claim_jobs(
        self, lanes: Sequence[Lane], *, want: int, token: int, worker: UUID, lease: timedelta
    ) -> list[ClaimedJob]:
        """Claim up to `want` jobs under `token`; answers them by lane in the order given, then by position."""
        queues, priorities, floors, ceilings = zip(*lanes, strict=True)
        params = {
            # Array text: psycopg takes 4 us for each element of a list, and a thousand queues have ten thousand lanes.
            "queues": array_text(queues),
            "priorities": _numbers(priorities),
            "floors": _numbers(floors),
            "ceilings": _numbers(ceilings),
            "want": want,
            "token": token,
            "worker": worker,
            "lease": lease,
        }
        try:
            rows = await self._again("claim", "claim_jobs", params)
        except psycopg.errors.UniqueViolation:
            rows = await self.claim_jobs_around(params)
        rows.sort(key=itemgetter(1))
        if len(set(map(itemgetter(2, 3), rows))) > 1:
            places = {(lane.queue, lane.priority): place for place, lane in enumerate(lanes)}
            rows.sort(key=lambda row: places[row[2], row[3]])
        return claimed_jobs(token, rows)

    async def claim_jobs_around(self, params: Params) -> list[TupleRow]:
        """The same where a job is ready and leased at once: it leaves `ready` and is not answered."""
        return await self._all("claim", "claim_jobs_around", params)

    async def hand_back_jobs(
        self, jobs: Sequence[tuple[int, int]], *, delay: timedelta, started: bool = False
    ) -> list[tuple[int, str]]:
        """Return (job, token) pairs, the attempt refunded; answers (job, queue) of those that were still ours.

        With `started` handlers had them, and the audit log hears of those that deliver messages.
        """
        params = {"job_ids": [job for job, _ in jobs], "tokens": [token for _, token in jobs], "delay": delay}
        params["started"] = started
        return [(row[0], row[1]) for row in await self._all("claim", "hand_back_jobs", params)]

    # --- finish --------------------------------------------------------------------------------------------

    async def finish_jobs(self, rows: Sequence[Finish]) -> set[int]:
        """Finish jobs as SUCCEEDED; answers the ids that were still ours."""
        params = finishes(rows)
        plain = params["results"] is None and params["ttls"] is None
        send = self._again if plain else self._all
        return {row[0] for row in await send("finish", "finish_jobs", params)}

    async def finish_deliveries(self, rows: Sequence[Finish]) -> set[int]:
        """`finish_jobs` for a batch that holds deliveries of topics: the audit log hears of them."""
        return {row[0] for row in await self._all("finish", "finish_deliveries", finishes(rows))}

    async def note_tries(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Let the audit log hear how these (job, token) tries of deliveries failed; in their transaction."""
        params = {"job_ids": [job for job, _ in pairs], "tokens": [token for _, token in pairs]}
        await self._do("finish", "note_tries", params)

    async def find_finished(self, pairs: Sequence[tuple[int, int]]) -> set[int]:
        """Which (job, token) pairs already stand in `done`."""
        params = {"job_ids": [job for job, _ in pairs], "tokens": [token for _, token in pairs]}
        return {row[0] for row in await self._all("finish", "find_finished", params)}

    async def close_jobs(self, failed: Sequence[Failed]) -> list[Moved]:
        """End leased jobs as DEAD or CANCELLED."""
        params = {**_tries(failed), "outcomes": [one.outcome for one in failed]}
        return [Moved(*row) for row in await self._all("finish", "close_jobs", params)]

    async def retry_jobs(self, failed: Sequence[Failed]) -> list[Moved]:
        """Send leased jobs back for another try; those with a cancel intent are not answered."""
        params = {
            **_tries(failed),
            "delays": [timedelta(seconds=one.delay) for one in failed],
            "crashes": [one.crashes for one in failed],
        }
        return [Moved(*row) for row in await self._all("retry", "retry_jobs", params)]

    # --- lease ---------------------------------------------------------------------------------------------

    async def extend_leases(
        self, pairs: Sequence[tuple[int, int]], *, lease: timedelta
    ) -> dict[tuple[int, int], bool]:
        """Extend (job, token) leases; answers those that still exist, with True where a cancel was asked for."""
        params = {
            "job_ids": [job for job, _ in pairs],
            "tokens": [token for _, token in pairs],
            "lease": lease,
        }
        return {(row[0], row[1]): row[2] for row in await self._all("lease", "extend_leases", params)}

    async def fence_lease(self, job_id: int, token: int) -> tuple[int, str] | None:
        """Prove and hold a lease inside a transaction: (attempt, isolation level), None when it is lost."""
        rows = await self._all("lease", "fence_lease", {"job_id": job_id, "token": token})
        return (rows[0][0], rows[0][1]) if rows else None

    async def mark_alone(self, job_id: int, token: int) -> bool:
        """Note that a suspect starts with nothing beside it; False when the lease is lost."""
        return bool(await self._all("lease", "mark_alone", {"job_id": job_id, "token": token}))

    async def find_expired(
        self, *, after: tuple[datetime, int], most: int, hooked_kinds: Sequence[str]
    ) -> list[Any]:
        """Lock and answer expired leases behind `after`, an (expiry, job)."""
        params = {"after": after[0], "after_job": after[1], "most": most, "hooked_kinds": list(hooked_kinds)}
        return await self._named("lease", "find_expired", params)

    async def rescue_jobs(self, pairs: Sequence[tuple[int, int]]) -> list[Any]:
        """Take expired leases back; answers job_id, attempt, next_attempt_at and queue of each."""
        params = {"job_ids": [job for job, _ in pairs], "tokens": [token for _, token in pairs]}
        return await self._named("lease", "rescue_jobs", params)

    # --- dependencies --------------------------------------------------------------------------------------

    async def find_ended_parents(self, *, after: int, most: int) -> tuple[int, int | None, list[int]]:
        """Of the next awaited jobs behind `after`: how many were looked at, the last one, those that have ended."""
        row = (await self._all("dependencies", "find_ended_parents", {"after": after, "most": most}))[0]
        return row[0], row[1], row[2]

    async def release_dependents(self, parents: Sequence[int]) -> list[Any]:
        """Draw the consequences for who waits for these; answers job_id, queue and doomed of each that moves."""
        return await self._named("dependencies", "release_dependents", {"parents": list(parents)})

    # --- schedule, floors ----------------------------------------------------------------------------------

    async def promote_jobs(self, *, after: datetime, most: int) -> tuple[int, list[int], datetime | None]:
        """Move due jobs to `ready`: (how many, wake lanes, the latest due time among them)."""
        row = (await self._all("schedule", "promote_jobs", {"after": after, "most": most}))[0]
        return row[0], row[1], row[2]

    async def sample_position(self) -> tuple[int, datetime]:
        """The last position given out, and the database's clock."""
        row = (await self._all("floors", "sample_position", {}))[0]
        return row[0], row[1]

    async def read_snapshot(self) -> tuple[int, int]:
        """(xmin of a fresh snapshot, a transaction id above all that had begun before)."""
        row = (await self._all("floors", "read_snapshot", {}))[0]
        return row[0], row[1]

    async def advance_floors(self, *, settled: int) -> int:
        """Move every lane's safe floor; answers how many moved."""
        return int((await self._all("floors", "advance_floors", {"settled": settled}))[0][0])

    async def advance_touches(self, *, settled: int) -> int:
        """Move the safe floor of each managed queue's touches; answers how many moved."""
        return int((await self._all("floors", "advance_touches", {"settled": settled}))[0][0])

    async def read_floors(self, queues: Sequence[str]) -> dict[tuple[str, int], int]:
        """The safe floors of these queues' lanes."""
        rows = await self._all("floors", "read_floors", {"queues": list(queues)})
        return {(row[0], row[1]): row[2] or 0 for row in rows}

    async def oldest_expiry(self, *, after: datetime) -> datetime | None:
        """The earliest lease expiry after `after`."""
        return cast(datetime | None, (await self._all("lease", "oldest_expiry", {"after": after}))[0][0])

    async def earliest_due(self, *, after: datetime) -> datetime | None:
        """The earliest due time after `after`."""
        return cast(datetime | None, (await self._all("schedule", "earliest_due", {"after": after}))[0][0])

    async def find_partitions(self, *, every: timedelta) -> tuple[int, bool, list[int]]:
        """(the partition in which ids stand, whether it is older than `every`, all partition numbers)."""
        row = (await self._all("partitions", "find_partitions", {"every": every}))[0]
        return row[0], row[1], row[2]

    async def add_partition(self, number: int) -> bool:
        """Make one partition; False when it was there."""
        return bool((await self._all("partitions", "add_partition", {"number": number}))[0][0])

    async def start_partition(self, number: int) -> bool:
        """Let ids go on in that partition; False when they are there already."""
        return bool(await self._all("partitions", "start_partition", {"number": number}))

    async def find_survivors(self, number: int, *, retention: timedelta, most: int) -> list[int] | None:
        """The ids that must outlive a partition; None while it is too young to be dropped."""
        params = {"number": number, "retention": retention, "most": most}
        return cast(list[int] | None, (await self._all("partitions", "find_survivors", params))[0][0])

    async def drop_partition(self, number: int, survivors: Sequence[int]) -> int:
        """Drop one partition; answers how many survivors moved."""
        params = {"number": number, "survivors": list(survivors)}
        return int((await self._all("partitions", "drop_partition", params))[0][0])

    async def forget_kept(self, *, retention: timedelta, most: int) -> int:
        """Delete kept jobs past their retention; answers how many."""
        return len(await self._all("partitions", "forget_kept", {"retention": retention, "most": most}))

    async def expire_results(self, *, most: int) -> int:
        """Forget results past their time to live; answers how many."""
        return len(await self._all("partitions", "expire_results", {"most": most}))

    async def expire_unique_keys(self, *, most: int) -> int:
        """Forget unique keys whose period is over; answers how many."""
        return len(await self._all("partitions", "expire_unique_keys", {"most": most}))

    # --- leader, worker, wake ------------------------------------------------------------------------------

    async def acquire_leadership(self, name: str, *, holder: UUID, token: int, lease: timedelta) -> bool:
        """Take or renew a leadership."""
        params = {"name": name, "holder": holder, "token": token, "lease": lease}
        return bool(await self._all("leader", "acquire_leadership", params))

    async def release_leadership(self, name: str, *, holder: UUID) -> bool:
        """Give a leadership up; False when it was not ours."""
        return bool(await self._all("leader", "release_leadership", {"name": name, "holder": holder}))

    async def register_worker(
        self, *, worker: UUID, name: str, mode: str, queues: Sequence[str], concurrency: int, version: str
    ) -> None:
        """Write this process start's row."""
        params = {"id": worker, "name": name, "mode": mode, "queues": list(queues)}
        await self._do(
            "worker", "register_worker", {**params, "concurrency": concurrency, "version": version}
        )

    async def see_worker(self, worker: UUID) -> None:
        """Note that the process lives."""
        await self._do("worker", "see_worker", {"id": worker})

    async def stop_worker(self, worker: UUID) -> None:
        """Note a clean stop."""
        await self._do("worker", "stop_worker", {"id": worker})

    async def forget_workers(self, *, retention: timedelta) -> int:
        """Delete the rows of workers that are long gone; answers how many."""
        return await self._do("worker", "forget_workers", {"retention": retention})

    async def declare_kinds(self, kinds: Sequence[tuple[str, int, int, bool]]) -> None:
        """Publish (name, max_attempts, crash_limit, hooked) of each kind."""
        names, attempts, crashes, hooked = ([row[i] for row in kinds] for i in range(4))
        params = {"names": names, "max_attempts": attempts, "crash_limits": crashes, "hooked": hooked}
        await self._do("worker", "declare_kinds", params)

    async def declare_queues(self, queues: Sequence[str]) -> None:
        """Make sure that these queues have their rows."""
        await self._do("worker", "declare_queues", {"queues": list(queues)})

    async def wake_lanes(self, lanes: Sequence[int]) -> int:
        """Notify all who sleep on the lanes; answers how many notifications went out."""
        return int((await self._all("wake", "wake_lanes", {"lanes": list(lanes)}))[0][0])

    async def wake_queues(self, queues: Iterable[str]) -> int:
        """Wake two of those who sleep on each queue, this session not; answers how many notifications went out."""
        return int((await self._all("wake", "wake_queues", {"queues": sorted(queues)}))[0][0])

    async def find_lanes(self, queues: Sequence[str]) -> list[int]:
        """The wake lanes of these queues."""
        return [row[0] for row in await self._all("wake", "find_lanes", {"queues": list(queues)})]


def _tries(failed: Sequence[Failed]) -> dict[str, Any]:
    return {
        "job_ids": [one.job_id for one in failed],
        "tokens": [one.token for one in failed],
        "ran_ms": [one.ran_ms for one in failed],
        "error_classes": [one.error_class for one in failed],
        "fingerprints": [one.fingerprint for one in failed],
        "messages": [one.message for one in failed],
        "tracebacks": [one.traceback for one in failed],
    }


def finishes(rows: Sequence[Finish]) -> dict[str, Any]:
    """What statements that finish jobs take of them."""
    job_ids, tokens, ran_ms, results, ttls = zip(*rows, strict=True) if rows else ((),) * 5
    return {
        "job_ids": _numbers(job_ids),
        "tokens": _numbers(tokens),
        # All that timestamps hold, in digits that are quickly written and read.
        "ran_ms": "{" + ",".join([f"{one:.3f}" for one in ran_ms]) + "}",
        "results": list(results) if any(result is not None for result in results) else None,
        "ttls": list(ttls) if any(ttl is not None for ttl in ttls) else None,
    }


def _numbers(values: Iterable[float]) -> str:
    """The text of an array of numbers: psycopg would look at each element for quotes and types."""
    return "{" + ",".join(map(str, values)) + "}"
