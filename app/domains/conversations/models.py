"""The tables of this application as SQLAlchemy sees them. The migrations decide; a test compares the two."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Double, LargeBinary, Numeric, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Python types to PostgreSQL types, as the migrations use them."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own form
        str: Text(),
        float: Double(),
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text()),
        dict[str, Any]: JSONB(),
        list[dict[str, Any]]: JSONB(),
    }


class ConversationEvent(Base):
    """One ended conversation: what was said, and what became of it."""

    __tablename__ = "conversation_events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[str]
    user_id: Mapped[str]
    bot_type: Mapped[str]
    bot_id: Mapped[str]
    bot_name: Mapped[str]
    start_time: Mapped[datetime]
    end_time: Mapped[datetime]
    conversation_log: Mapped[list[dict[str, Any]]]
    body_hash: Mapped[bytes] = mapped_column(LargeBinary())
    status: Mapped[str]
    attempt_count: Mapped[int] = mapped_column(SmallInteger())
    next_attempt_at: Mapped[datetime | None]
    job_id: Mapped[int | None] = mapped_column(BigInteger())
    created_at: Mapped[datetime]
    processed_at: Mapped[datetime | None]
    friendship_score_change: Mapped[Decimal | None] = mapped_column(Numeric(8, 1))
    new_friendship_level: Mapped[str | None]
    score: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None]
    error_details: Mapped[str | None]


class FriendshipRow(Base):
    """A user's friendship: the sum of all processed conversations."""

    __tablename__ = "friendship_status"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    friendship_score: Mapped[Decimal] = mapped_column(Numeric(14, 1))
    friendship_level: Mapped[str]
    conversations: Mapped[int]
    topic_metrics: Mapped[dict[str, Any]]
    recent_agents: Mapped[list[dict[str, Any]]]
    last_conversation_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class AgentRow(Base):
    """An agent: what it talks about and how it is prompted."""

    __tablename__ = "agent_prompting"

    agent_id: Mapped[str] = mapped_column(primary_key=True)
    agent_name: Mapped[str]
    bot_type: Mapped[str]
    topics: Mapped[list[str]]
    prompt_en: Mapped[str]
    prompt_vi: Mapped[str]
    enabled: Mapped[bool]


class AgentLevelRow(Base):
    """That an agent may be chosen at a friendship level, and how gladly."""

    __tablename__ = "friendship_agent_mapping"

    friendship_level: Mapped[str] = mapped_column(primary_key=True)
    agent_id: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[float]
    enabled: Mapped[bool]


class CandidatesRow(Base):
    """Who may talk to a user next, until `expires_at`."""

    __tablename__ = "agent_candidates"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    greeting_agent: Mapped[str | None]
    talk_candidates: Mapped[list[str]]
    game_candidates: Mapped[list[str]]
    friendship_level: Mapped[str]
    event_id: Mapped[UUID]
    source_end_time: Mapped[datetime]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
