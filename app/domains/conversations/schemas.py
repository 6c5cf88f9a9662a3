"""What callers send and get: the shapes of this application's HTTP API. Strict; unknown fields are refused."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,127}\Z")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SINCE_1970: Final = (
    r"^(19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-5][0-9]"
    r"(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"
_NO_NUL: Final = r"^[^\u0000]*$"
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def _read_instant(value: object) -> datetime:
    """RFC 3339 with a zone: pydantic alone would also take numbers, dates and times without one."""
    if not isinstance(value, str) or not _INSTANT.match(value):
        raise ValueError("is not a time like 2025-11-25T18:00:00Z, with a zone")
    try:
        instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None
    if instant < _EARLIEST:
        raise ValueError("is before 1970")
    return instant


def _check_id(value: str) -> str:
    if not ID.match(value):
        raise ValueError(
            "is not an id: 1 to 128 letters, digits and . _ : @ + = ~ -, a letter or digit first"
        )
    return value


def _check_printable(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("holds a control character")
    return value


Instant = Annotated[
    datetime,
    BeforeValidator(_read_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _SINCE_1970}),
]
Id = Annotated[
    str,
    AfterValidator(_check_id),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,127}$"}),
]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_check_printable),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200, "pattern": _PRINTABLE}),
]
Said = Annotated[str, WithJsonSchema({"type": "string", "pattern": _NO_NUL})]
Topic = Annotated[
    str,
    StringConstraints(max_length=200),
    WithJsonSchema({"type": "string", "maxLength": 200, "pattern": _NO_NUL}),
]


class LogTurn(BaseModel):
    """One thing that was said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: Literal["user", "bot"]
    text: Said
    timestamp: Instant
    topic: Topic | None = None


EXAMPLE: Final[dict[str, Any]] = {
    "conversation_id": "conv_abc123xyz",
    "profile_id": "user_123",
    "bot_type": "TALK",
    "bot_id": "talk_movie_preference",
    "bot_name": "Movie Preference Talk",
    "start_time": "2025-11-25T18:00:00Z",
    "end_time": "2025-11-25T18:20:00Z",
    "conversation_log": [
        {
            "speaker": "bot",
            "text": "Which film do you like best?",
            "timestamp": "2025-11-25T18:00:05Z",
            "topic": "movies",
        },
        {"speaker": "user", "text": "I love The Lion King! Do you?", "timestamp": "2025-11-25T18:00:20Z"},
    ],
}


class EndConversation(BaseModel):
    """A conversation that has ended, with everything that was said."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [EXAMPLE]})

    conversation_id: Id
    profile_id: Id
    bot_type: Literal["TALK", "GREETING", "GAME_ACTIVITY"]
    bot_id: Id
    bot_name: Name
    start_time: Instant
    end_time: Instant
    conversation_log: list[LogTurn]

    @field_validator("end_time")
    @classmethod
    def _after_start(cls, end: datetime, info: ValidationInfo) -> datetime:
        start = info.data.get("start_time")
        if start is not None and end < start:
            raise ValueError("is before start_time")
        return end


class Accepted(BaseModel):
    """The event and its job. Repeating the call gives the same."""

    event_id: UUID
    job_id: int | None = Field(
        description="null only for an event that was imported and waits for the fallback"
    )
    status: Literal["PENDING", "PROCESSED", "FAILED"]


class EventState(BaseModel):
    """The stored event. PROCESSING is derived from the job's lease."""

    event_id: UUID
    conversation_id: str
    user_id: str
    bot_type: str
    bot_id: str
    bot_name: str
    start_time: datetime
    end_time: datetime
    status: Literal["PENDING", "PROCESSING", "PROCESSED", "FAILED"]
    attempt_count: int
    next_attempt_at: datetime | None
    created_at: datetime


class JobState(BaseModel):
    """The job as the queue knows it; finished jobs are kept for a week."""

    job_id: int
    status: Literal["PENDING", "RUNNING", "SUCCEEDED", "DEAD", "CANCELLED"] | None = Field(
        description="null when the queue no longer knows the job"
    )
    waiting_for: str | None
    attempt: int | None
    next_attempt_at: datetime | None
    created_at: datetime | None
    started_at: datetime | None
    lease_expires_at: datetime | None
    finished_at: datetime | None


class Outcome(BaseModel):
    """What became of the conversation: a score, or an error."""

    processed_at: datetime | None
    friendship_score_change: float | None
    new_friendship_level: str | None
    score: dict[str, Any] | None = Field(description="turns, questions, emotion, topics, parts of the change")
    error_code: str | None
    error_details: str | None


class ConversationState(BaseModel):
    """Everything known of one conversation but its text."""

    conversation_id: str
    event_id: UUID
    job_id: int | None
    status: Literal["PENDING", "PROCESSING", "PROCESSED", "FAILED"]
    event: EventState
    job: JobState | None
    outcome: Outcome | None


class CandidatesState(BaseModel):
    """Who may talk to the user next, best first."""

    user_id: str = Field(examples=["user_123"])
    greeting_agent: str | None = Field(examples=["greeting_first_meeting"])
    talk_candidates: list[str] = Field(examples=[["talk_movie_preference", "talk_animal_friends"]])
    game_candidates: list[str] = Field(examples=[["game_guess_the_animal", "game_word_chain"]])
    friendship_level: str = Field(examples=["PHASE1_STRANGER"])
    event_id: UUID
    source_end_time: datetime
    created_at: datetime
    expires_at: datetime
