"""The statements of this application: which rows are read and written. Decides nothing.

Hot ones are files in sql/queries/conversations, sent by psycopg; the rest is SQLAlchemy on models.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domains.conversations.models import CandidatesRow
from app.queue.store import statement


class Written(NamedTuple):
    """What `end_conversation` found or made."""

    event_id: UUID
    job_id: int | None
    status: str
    created: bool
    same_body: bool


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


async def find_conversation(connection: AsyncConnection, conversation_id: str) -> dict[str, Any] | None:
    """A conversation's event, job and outcome as one row."""
    result = await connection.exec_driver_sql(
        _sql("find_conversation").decode(), {"conversation_id": conversation_id}
    )
    row = result.mappings().first()
    return dict(row) if row is not None else None


async def find_candidates(connection: AsyncConnection, user_id: str) -> dict[str, Any] | None:
    """A user's candidates that have not expired."""
    rows = CandidatesRow.__table__
    query = select(rows).where(
        rows.c.user_id == user_id, rows.c.expires_at > select(func.tandem.clock()).scalar_subquery()
    )
    row = (await connection.execute(query)).mappings().first()
    return dict(row) if row is not None else None
