"""The friendship between a user and the bots: a score, a level by thresholds, and what was talked about.

It only adds, and in any order: two conversations that end at once may be added either way.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domains.conversations.scoring import ConversationScore
from app.domains.conversations.topic_metrics import Topics, merge_topics


class FriendshipLevel(StrEnum):
    STRANGER = "PHASE1_STRANGER"
    ACQUAINTANCE = "PHASE2_ACQUAINTANCE"
    FRIEND = "PHASE3_FRIEND"


LEVELS: Final = tuple(FriendshipLevel)


class FriendshipThresholds(BaseModel):
    """The scores from which somebody is an acquaintance, and a friend."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    acquaintance: Decimal = Field(Decimal("30"), ge=0)
    friend: Decimal = Field(Decimal("120"), ge=0)

    @model_validator(mode="after")
    def _ascend(self) -> "FriendshipThresholds":
        if self.friend <= self.acquaintance:
            raise ValueError("the threshold `friend` must be above `acquaintance`")
        return self

    def level(self, score: Decimal) -> FriendshipLevel:
        """The level of a score; a falling score falls back."""
        if score >= self.friend:
            return FriendshipLevel.FRIEND
        if score >= self.acquaintance:
            return FriendshipLevel.ACQUAINTANCE
        return FriendshipLevel.STRANGER


DEFAULT_THRESHOLDS: Final = FriendshipThresholds()


@dataclass(frozen=True, slots=True)
class FriendshipStatus:
    """One user's row. The score is the plain sum of all changes: clamping it would make the order matter."""

    user_id: str
    score: Decimal = Decimal("0.0")
    level: FriendshipLevel = FriendshipLevel.STRANGER
    conversations: int = 0
    topic_metrics: Topics = field(default_factory=dict)


def add_conversation(
    status: FriendshipStatus,
    scored: ConversationScore,
    thresholds: FriendshipThresholds = DEFAULT_THRESHOLDS,
) -> FriendshipStatus:
    """The status after one more conversation. Any order of the same conversations gives the same status."""
    score = status.score + scored.friendship_score_change
    return FriendshipStatus(
        user_id=status.user_id,
        score=score,
        level=thresholds.level(score),
        conversations=status.conversations + 1,
        topic_metrics=merge_topics(status.topic_metrics, scored.topic_metrics),
    )
