"""The statements of this application: which rows are read and written. Decides nothing.

Files in sql/queries/conversations, sent by psycopg; what processing reads and writes is in processing_store.py.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import dict_row

from app.client.statements import array_text
from app.queue.store import statement


class Written(NamedTuple):
    """What `end_conversation` found or made."""

    event_id: str
    job_id: int | None
    status: str
    created: bool
    same_body: bool


class Repaired(NamedTuple):
    """What one batch of the fallback found and did; `reprocessed` are conversation ids."""

    checked: int
    alive: int
    closed: int
    reprocessed: list[str]


class Waiting(NamedTuple):
    """The database-wide gauges."""

    pending: int
    missed: int


_TEXTS: Final = (
    "conversation_id", "user_id", "bot_type", "bot_id", "bot_name", "conversation_log", "context",
)  # fmt: skip
_OTHERS: Final = ("id", "start_time", "end_time")


def _sql(name: str) -> bytes:
    return statement("conversations", name)


async def end_conversation(
    connection: psycopg.AsyncConnection[Any], values: Mapping[str, Any]
) -> Written | None:
    """Write event and job, or find the first call's. None: a rival was faster, ask again."""
    cursor = connection.cursor(binary=True)
    try:
        await cursor.execute(_sql("end_conversation"), values, prepare=True)
    except psycopg.errors.UniqueViolation:
        return None
    row = await cursor.fetchone()
    return Written(*row) if row is not None else None


async def end_conversations(
    connection: psycopg.AsyncConnection[Any], batch: Sequence[Mapping[str, Any]]
) -> list[Written]:
    """The same for many in one transaction, an answer for each. Raises UniqueViolation when a rival was faster."""
    values: dict[str, Any] = {f"{name}s": array_text([one[name] for one in batch]) for name in _TEXTS}
    values["body_hashes"] = array_text(["\\x" + one["body_hash"].hex() for one in batch])
    values |= {f"{name}s": array_text([str(one[name]) for one in batch]) for name in _OTHERS}
    values["fallback"] = batch[0]["fallback"]
    cursor = connection.cursor(binary=True)
    await cursor.execute(_sql("end_conversations"), values, prepare=True)
    return [Written(*row) for row in await cursor.fetchall()]


async def find_conversation(
    connection: psycopg.AsyncConnection[Any], conversation_id: str
) -> dict[str, Any] | None:
    """A conversation's event, job and outcome as one row."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_sql("find_conversation"), {"conversation_id": conversation_id})
    return await cursor.fetchone()


async def find_candidates(connection: psycopg.AsyncConnection[Any], user_id: str) -> dict[str, Any] | None:
    """A user's candidates that have not expired."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_sql("find_candidates"), {"user_id": user_id})
    return await cursor.fetchone()


# --- what the queue and the sweeper do, on connections of psycopg ----------------------------------------------


async def apply_change(connection: psycopg.AsyncConnection[Any], values: Mapping[str, Any]) -> bool:
    """Bring an event in line with its job; False when another job has it or it is processed."""
    cursor = await connection.execute(_sql("apply_change"), values)
    return cursor.rowcount > 0


async def repair_events(connection: psycopg.AsyncConnection[Any], *, most: int, fallback: float) -> Repaired:
    """One batch of the fallback; `fallback` seconds from now the same events may be looked at again."""
    values = {"most": most, "fallback": timedelta(seconds=fallback)}
    row = await (await connection.execute(_sql("repair_events"), values)).fetchone()
    return Repaired(*row) if row is not None else Repaired(0, 0, 0, [])


def count_waiting(connection: psycopg.Connection[Any], *, grace: float, most: int) -> Waiting:
    """The gauges; an event counts as missed `grace` seconds after its time, and counting ends at `most`."""
    values = {"grace": timedelta(seconds=grace), "most": most}
    row = connection.execute(_sql("count_waiting"), values).fetchone()
    return Waiting(*row) if row is not None else Waiting(0, 0)
