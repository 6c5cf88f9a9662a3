"""The statements of processing, in a handler's SQLAlchemy session: files in sql/queries/conversations, and models.py.

Apart from repository.py, so that who processes nothing does without SQLAlchemy. Decides nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.domains.conversations.friendship import FriendshipLevel, FriendshipStatus
from app.domains.conversations.models import AgentLevelRow, AgentRow, FriendshipRow
from app.domains.conversations.selection import AgentMapping, AgentPrompting, BotType
from app.domains.conversations.topic_metrics import topics_from_json
from app.queue.store import statement


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


def _sql(name: str) -> str:
    return statement("conversations", name).decode()


async def read_event(session: AsyncSession, event_id: UUID) -> EventToProcess | None:
    """The event, outside any transaction."""
    connection = await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    result = await connection.exec_driver_sql(_sql("read_event"), {"event_id": event_id})
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
    result = await connection.exec_driver_sql(_sql("record_outcome"), dict(values))
    return bool(result.one()[0])
