"""The statements of this application: which rows are read and written. Decides nothing.

Hot ones are files in sql/queries/conversations, sent by psycopg; the rest is SQLAlchemy on models.py.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.client.statements import array_text
from app.domains.conversations.friendship import FriendshipLevel, FriendshipStatus
from app.domains.conversations.models import AgentLevelRow, AgentRow, FriendshipRow
from app.domains.conversations.selection import AgentMapping, AgentPrompting, BotType
from app.domains.conversations.topic_metrics import topics_from_json
from app.queue.store import statement


class Written(NamedTuple):
    """What `end_conversation` found or made."""

    event_id: str
    job_id: int | None
    status: str
    created: bool
    same_body: bool


class EventToProcess(NamedTuple):
    """What the handler needs of an event; `log` is JSON text."""

    conversation_id: str
    user_id: str
    bot_type: str
    bot_id: str
    start_time: datetime
    end_time: datetime
    status: str
    log: str


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


# --- what the worker does ------------------------------------------------------------------------------------


async def read_event(session: AsyncSession, event_id: UUID) -> EventToProcess | None:
    """The event, outside any transaction."""
    connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    result = await connection.exec_driver_sql(_sql("read_event").decode(), {"event_id": event_id})
    row = result.first()
    if row is None:
        return None
    event = EventToProcess._make(row)
    return event._replace(
        start_time=event.start_time.astimezone(UTC), end_time=event.end_time.astimezone(UTC)
    )


async def read_agents(session: AsyncSession) -> tuple[list[AgentMapping], list[AgentPrompting]]:
    """Both tables of agents."""
    levels = await session.scalars(select(AgentLevelRow))
    agents = await session.scalars(select(AgentRow))
    return (
        [
            AgentMapping(FriendshipLevel(row.friendship_level), row.agent_id, row.weight, row.enabled)
            for row in levels
        ],
        [
            AgentPrompting(
                row.agent_id,
                row.agent_name,
                BotType(row.bot_type),
                tuple(row.topics),
                row.prompt_en,
                row.prompt_vi,
                row.enabled,
            )
            for row in agents
        ],
    )


async def lock_friendship(
    session: AsyncSession, user_id: str
) -> tuple[FriendshipStatus, list[dict[str, Any]]]:
    """The user's friendship, locked until the transaction ends, with the agents talked to last; made if need be."""
    find = select(FriendshipRow).where(FriendshipRow.user_id == user_id).with_for_update()
    row = (await session.scalars(find)).one_or_none()
    if row is None:
        # Whoever makes the row first, everybody finds it: a later statement sees what the insert waited for.
        clock = func.tandem.clock()
        made = insert(FriendshipRow).values(user_id=user_id, created_at=clock, updated_at=clock)
        await session.execute(made.on_conflict_do_nothing())
        row = (await session.scalars(find)).one()
    status = FriendshipStatus(
        user_id=row.user_id,
        score=row.friendship_score,
        level=FriendshipLevel(row.friendship_level),
        conversations=row.conversations,
        topic_metrics=topics_from_json(row.topic_metrics),
    )
    session.expunge(row)  # the statement that follows writes it, not the session
    return status, row.recent_agents


async def record_outcome(session: AsyncSession, values: Mapping[str, Any]) -> bool:
    """Write event, friendship and candidates; False when the event was processed already, and nothing is written."""
    connection = await session.connection()
    result = await connection.exec_driver_sql(_sql("record_outcome").decode(), dict(values))
    return bool(result.one()[0])


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
