"""Managed queues and limits as operators change them at run time: in effect with the next admission, ending nothing.

How jobs are admitted under them is in sql/functions/admit_jobs.sql; docs/limits.md explains both.
"""

import re
from typing import Any

import psycopg
from psycopg import AsyncConnection

from app.errors import InvalidInput, NotFound
from app.queue.admission_store import AdmissionStore
from app.queue.dict_rows import Row
from app.queue.job import check_name
from app.queue.limit_store import DeadHead, LimitStore

Connection = AsyncConnection[Any]
TARGET = re.compile(
    r"global|kind:[a-z][a-z0-9_.-]{0,62}|queue:[a-z][a-z0-9_.-]{0,62}|key:[a-z][a-z0-9_.-]{0,62}/.{1,255}"
)
MOVE_AT_ONCE = 1_000


async def manage_queue(
    connection: Connection,
    queue: str,
    *,
    ordered: bool = False,
    dead_head: DeadHead = "skip",
    key_limit: int | None = None,
    key_rate: float | None = None,
    key_burst: int = 1,
    rank_keys: bool = False,
) -> int:
    """Make a queue managed, or change how it is: all settings at once. Answers how many waiting jobs moved.

    `ordered`: one job of a key at a time, first in first out; a dead letter is passed over or stops its key
    (`dead_head`). `key_limit`: how many jobs of a key run at once; `key_rate`: how many start per second, `key_burst`
    of them at once. `rank_keys`: the priority of a key's best job decides between keys before fairness does.
    Raises InvalidInput.
    """
    check_name("queue", queue)
    if (key_limit is not None and key_limit < 0) or (key_rate is not None and key_rate <= 0) or key_burst < 1:
        raise InvalidInput("invalid-limit", "a key's limit is 0 or more, its rate and burst are positive")
    await LimitStore(connection).manage_queue(
        queue,
        ordered=ordered,
        dead_head=dead_head,
        key_limit=key_limit,
        key_rate=key_rate,
        key_burst=key_burst,
        rank_keys=rank_keys,
    )
    return await _move(connection, queue)


async def release_queue(connection: Connection, queue: str) -> int:
    """Make a queue a plain one again; answers how many waiting jobs moved. Raises NotFound when it was not managed."""
    if not await LimitStore(connection).release_queue(queue):
        raise NotFound("not-managed", f"queue {queue!r} is not managed")
    return await _move(connection, queue)


async def _move(connection: Connection, queue: str) -> int:
    store, moved = AdmissionStore(connection), 0
    while (some := await store.move_waiting(queue, most=MOVE_AT_ONCE)) > 0:
        moved += some
    return moved


async def list_limits(connection: Connection) -> list[Row]:
    """Every limit with what runs under it: global, kinds, managed queues, keys that have something of their own."""
    return await LimitStore(connection).list_limits()


async def set_limit(
    connection: Connection,
    target: str,
    *,
    max_running: int | None = None,
    weight: float | None = None,
    rate: float | None = None,
    burst: int | None = None,
    exempt: bool | None = None,
) -> None:
    """Set a limit; None leaves what it was. Targets: `global`, `kind:NAME`, `queue:NAME`, `key:QUEUE/KEY`.

    All take `max_running`; a key also its `weight` between keys, its `rate` of starts per second with `burst` at once,
    and whether it is `exempt` from the global limit. Raises InvalidInput.
    """
    _check(target)
    try:
        await LimitStore(connection).set_limit(
            target, max_running=max_running, weight=weight, rate=rate, burst=burst, exempt=exempt
        )
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.CheckViolation) as error:
        hint = error.diag.message_hint or "limits are 0 or more, weights, rates and bursts are positive"
        raise InvalidInput("invalid-limit", f"{error.diag.message_primary}; {hint}") from error


async def clear_limit(connection: Connection, target: str) -> None:
    """Remove a limit, or all that a key has of its own. Raises InvalidInput, NotFound."""
    _check(target)
    if not await LimitStore(connection).clear_limit(target):
        raise NotFound("unknown-limit", f"there is no limit {target}")


async def resume_key(connection: Connection, queue: str, key: str) -> None:
    """Let a key of an ordered queue go on past the dead letter it stopped behind. Raises NotFound."""
    if not await LimitStore(connection).resume_key(queue, key):
        raise NotFound("not-stopped", f"key {key!r} of queue {queue!r} has not stopped behind a dead letter")


def _check(target: str) -> None:
    if not TARGET.fullmatch(target):
        raise InvalidInput(
            "invalid-limit", f"{target!r} is none of global, kind:NAME, queue:NAME, key:QUEUE/KEY"
        )
