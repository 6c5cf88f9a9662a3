"""What was enqueued, as a test asks for it, with messages that say what is there instead."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.client.encoding import encode_json
from app.client.job import PAYLOAD_LIMIT_BYTES
from app.client.places import AsyncPlace, SyncPlace, run, run_async
from app.client.statements import load

_WAITING = load(__package__, "find_waiting")
_SHOWN = 10


class _AnyTime:
    def __repr__(self) -> str:
        return "ANY_TIME"


ANY_TIME: Final = _AnyTime()
"""The job may be due whenever."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits; `run_at` is None when it is ready."""

    job_id: int
    kind: str
    queue: str
    priority: int
    payload: Any
    run_at: datetime | None
    partition_key: str | None
    event_id: str | None
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Wanted:
    kind: str | None
    payload: Any
    queue: str | None
    run_at: "datetime | timedelta | _AnyTime | None"
    within: timedelta

    def difference(self, job: WaitingJob, now: datetime) -> str | None:
        """Why a job is not meant; None if it is."""
        if self.kind is not None and job.kind != self.kind:
            return f"kind is {job.kind!r}"
        if self.queue is not None and job.queue != self.queue:
            return f"queue is {job.queue!r}"
        if self.payload is not None and (told := _lacks(job.payload, self.payload, "payload")):
            return told
        return self._other_time(job.run_at, now)

    def _other_time(self, run_at: datetime | None, now: datetime) -> str | None:
        if isinstance(self.run_at, _AnyTime):
            return None
        if self.run_at is None or run_at is None:
            return None if self.run_at is run_at else f"it is {_moment(run_at, now)}"
        wanted = self.run_at if isinstance(self.run_at, datetime) else now + self.run_at
        return None if abs(wanted - run_at) <= self.within else f"it is {_moment(run_at, now)}"

    def __str__(self) -> str:
        parts = ["any kind" if self.kind is None else f"kind {self.kind!r}"]
        if self.payload is not None:
            parts.append(f"payload with {json.dumps(self.payload, ensure_ascii=False)}")
        if self.queue is not None:
            parts.append(f"queue {self.queue!r}")
        if isinstance(self.run_at, datetime):
            parts.append(f"due at {self.run_at.isoformat()}")
        elif isinstance(self.run_at, timedelta):
            parts.append(f"due in {self.run_at}")
        elif self.run_at is None:
            parts.append("ready now")
        return ", ".join(parts)


def assert_enqueued(
    place: SyncPlace,
    kind: str | None = None,
    *,
    payload: Any = None,
    queue: str | None = None,
    run_at: datetime | timedelta | _AnyTime | None = ANY_TIME,
    within: timedelta = timedelta(seconds=1),
    count: int | None = None,
) -> list[WaitingJob]:
    """Assert that such a job waits, as `place` sees it; answers those that fit, oldest first.

    `payload` is what the job's payload must contain: a mapping its keys, anything else as a whole; models and
    dataclasses count as the JSON that they become. `run_at` is a moment, a duration from the queue's present (both
    up to `within`), or None for a job that is ready. `count` is how many there must be; without it one or more.
    Jobs that run or have ended do not count. Raises AssertionError that shows what waits instead.
    """
    wanted = _wanted(kind, payload, queue, run_at, within)
    return _judge(run(place, _WAITING, {}), wanted, count)


async def assert_enqueued_async(
    place: AsyncPlace,
    kind: str | None = None,
    *,
    payload: Any = None,
    queue: str | None = None,
    run_at: datetime | timedelta | _AnyTime | None = ANY_TIME,
    within: timedelta = timedelta(seconds=1),
    count: int | None = None,
) -> list[WaitingJob]:
    """`assert_enqueued` for asynchronous places."""
    wanted = _wanted(kind, payload, queue, run_at, within)
    return _judge(await run_async(place, _WAITING, {}), wanted, count)


def assert_not_enqueued(place: SyncPlace, kind: str | None = None, **wanted: Any) -> None:
    """Assert that no such job waits; keywords as in `assert_enqueued`."""
    assert_enqueued(place, kind, count=0, **wanted)


async def assert_not_enqueued_async(place: AsyncPlace, kind: str | None = None, **wanted: Any) -> None:
    """Assert that no such job waits; keywords as in `assert_enqueued`."""
    await assert_enqueued_async(place, kind, count=0, **wanted)


def _wanted(kind: str | None, payload: Any, queue: str | None, run_at: Any, within: timedelta) -> _Wanted:
    if isinstance(run_at, datetime) and run_at.utcoffset() is None:
        raise ValueError("run_at needs a time zone")
    if payload is not None:
        payload = json.loads(encode_json(payload, limit=PAYLOAD_LIMIT_BYTES, what="payload"))
    return _Wanted(kind, payload, queue, run_at, within)


def _judge(rows: Sequence[tuple[Any, ...]], wanted: _Wanted, count: int | None) -> list[WaitingJob]:
    now = rows[0][-1] if rows else datetime.now(UTC)
    jobs = [_waiting(row) for row in rows]
    differences = [wanted.difference(job, now) for job in jobs]
    fitting = [job for job, difference in zip(jobs, differences, strict=True) if difference is None]
    if len(fitting) == count or (count is None and fitting):
        return fitting
    number = "at least one waiting job" if count is None else f"{count} waiting jobs"
    told = [f"expected {number} ({wanted}), found {len(fitting)}"]
    # What has the right kind is most likely what was meant.
    shown = sorted(
        zip(jobs, differences, strict=True), key=lambda one: (one[1] is None, one[0].kind != wanted.kind)
    )
    told += [f"  {_line(job, now)}  <- {difference or 'this one fits'}" for job, difference in shown[:_SHOWN]]
    if len(jobs) > _SHOWN:
        told.append(f"  … and {len(jobs) - _SHOWN} more")
    if not jobs:
        told.append(
            "  no job waits: was it enqueued on another connection that has not committed, or has it run?"
        )
    raise AssertionError("\n".join(told))


def _waiting(row: tuple[Any, ...]) -> WaitingJob:
    job_id, kind, queue, priority, payload, run_at, key, event_id, context, _ = row
    known = json.loads(context) if context else {}
    return WaitingJob(job_id, kind, queue, priority, json.loads(payload), run_at, key, event_id, known)


def _lacks(found: Any, wanted: Any, path: str) -> str | None:
    """The first thing that `found` lacks of `wanted`."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            if key not in found:
                return f"{path} has no {key!r}"
            if told := _lacks(found[key], value, f"{path}.{key}"):
                return told
        return None
    return (
        None
        if found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
        else f"{path} is {found!r}"
    )


def _moment(run_at: datetime | None, now: datetime) -> str:
    if run_at is None:
        return "ready now"
    away = abs(run_at - now)
    rest = timedelta(seconds=round(away / timedelta(seconds=1)))
    away_by = f"in {rest}" if run_at >= now else f"{rest} ago"
    return f"due at {run_at.astimezone(UTC).isoformat()} ({away_by})"


def _line(job: WaitingJob, now: datetime) -> str:
    payload = json.dumps(job.payload, ensure_ascii=False)
    payload = payload if len(payload) <= 200 else f"{payload[:199]}…"
    return f"#{job.job_id} {job.kind} in {job.queue}, {_moment(job.run_at, now)}, {payload}"
